"""Corruptions of precomputed features."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .base import Corruption, Surroundings, number


@dataclass(frozen=True)
class FeatureNoise(Corruption):
    """Independent Gaussian noise on every feature, in units of that dimension's spread in training.

    Args:
        scale: standard deviation of the noise, in standard deviations of the dimension over all vectors of the
            training split. A dimension that is constant there stays as it is.

    Raises:
        ValueError: `scale` is negative; in a call, vectors of another dimension than in training.
    """

    name, signal, needs = "feature_noise", "vector", ("std",)
    severity, unit, severities = "scale", " sd", (0.5, 1.0, 2.0)

    scale: float = number(1.0, 0)

    def __call__(self, signal: Tensor, rng: np.random.Generator, around: Surroundings) -> Tensor:
        """The noisy features, (..., dim)."""
        if around.std is None or around.std.shape != signal.shape[-1:]:
            found = "none" if around.std is None else f"{len(around.std)}"
            raise ValueError(
                f"feature_noise: expected the training split's deviations of {signal.shape[-1]} dimensions, found "
                f"{found}. Give the training split that the model was trained on."
            )
        noise = torch.from_numpy(rng.standard_normal(signal.shape, dtype=np.float32))
        return signal + self.scale * around.std * noise


def training_std(vectors: Iterable[Tensor | None]) -> Tensor:
    """The standard deviation of each dimension over the vectors of all rows, float32 (dim,).

    Args:
        vectors: (..., dim) each, with one dim; None is left out. Read once, one at a time.

    Raises:
        ValueError: there is no vector, or their dimensions differ.

    Example:
        >>> training_std([torch.tensor([1.0, 5.0]), None, torch.tensor([[3.0, 5.0]])])
        tensor([1., 0.])
    """
    count, mean, squares = 0, None, None
    for vector in vectors:
        if vector is None:
            continue
        rows = vector.double().reshape(-1, vector.shape[-1])
        if mean is None:
            mean, squares = rows.new_zeros(rows.shape[1]), rows.new_zeros(rows.shape[1])
        if rows.shape[1] != len(mean):
            raise ValueError(f"expected vectors of {len(mean)} dimensions, found {rows.shape[1]}. Make them equal.")
        total = count + len(rows)  # Chan's update: no cancellation where the mean is large
        delta = rows.mean(0) - mean
        squares += (rows - rows.mean(0)).square().sum(0) + delta.square() * (count * len(rows) / total)
        mean += delta * (len(rows) / total)
        count = total
    if mean is None:
        raise ValueError("expected a vector in the training split, found none. Check the column.")
    return (squares / count).sqrt().float()
