"""Corruptions in training: which, how strong and how often, drawn anew at every access to a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..transforms.base import Signal, Transform
from .base import Corruption, Surroundings, check_number
from .registry import CORRUPTIONS, build_corruption, check_corruptible


@dataclass(frozen=True)
class Augmentation:
    """What may happen to one modality's signals in training.

    Attributes:
        corruptions: options by the corruption's name; the severity may be a pair, the ends of a range.
        p: the probability that a signal is corrupted, in (0, 1].
    """

    corruptions: Mapping[str, Mapping[str, Any]]
    p: float = 1.0

    def __call__(self, signal: Signal, around: Surroundings) -> Signal:
        """With probability `p`, the signal under one of the corruptions, all equally likely; else as it is.

        All draws follow from one number of the global torch RNG, so they are seeded and resumed as those of every
        random transform are.
        """
        rng = np.random.default_rng(int(torch.randint(2**62, ())))
        if rng.random() >= self.p:
            return signal
        name = list(self.corruptions)[rng.integers(len(self.corruptions))]
        return drawn(name, self.corruptions[name], rng)(signal, rng, around)

    @property
    def needs(self) -> set[str]:
        """Which fields of `Surroundings` the corruptions use."""
        return {need for name in self.corruptions for need in CORRUPTIONS.find(name).needs}


def build_augmentation(modality: str, transform: Transform, options: Mapping[str, Any]) -> Augmentation:
    """From `{corruption: options, ..., "p": probability}`; a range of severities is `[lowest, highest]`.

    Raises:
        ValueError: no corruption, one that does not fit the transform's signal, an unknown or impossible option.

    Example:
        >>> from hf_bml.processing import LogSpectrogram
        >>> build_augmentation("audio", LogSpectrogram(), {"white_noise": {"snr": [0, 20]}, "p": 0.5}).p
        0.5
    """
    p = options.get("p", 1.0)
    check_number("augment", "p", p, 0, 1, above=True)
    corruptions = {name: dict(given or {}) for name, given in options.items() if name != "p"}
    if not corruptions:
        raise ValueError(f"augment: expected a corruption out of {list(CORRUPTIONS)}, found none. Name one.")
    for name, given in corruptions.items():
        found = CORRUPTIONS.find(name)
        check_corruptible(modality, transform, name, found.signal)
        for end in ends(found, given):
            build_corruption(name, {**given, found.severity: end} if found.severity in given else given)
    return Augmentation(corruptions, p)


def ends(found: type[Corruption], options: Mapping[str, Any]) -> list[Any]:
    """The lowest and the highest severity that the options allow.

    Raises:
        ValueError: a list of another length than two, or in descending order.
    """
    value = options.get(found.severity)
    if not isinstance(value, list | tuple):
        return [value]
    for end in value:
        check_number(found.name, str(found.severity), end)
    if len(value) != 2 or value[0] > value[1]:
        raise ValueError(f"{found.name}: expected {found.severity} as [lowest, highest], found {value}. Correct it.")
    return list(value)


def drawn(name: str, options: Mapping[str, Any], rng: np.random.Generator) -> Corruption:
    """The corruption with a severity drawn uniformly where the options give a range; whole where its ends must be."""
    found = CORRUPTIONS.find(name)
    low, *high = ends(found, options)
    if not high:
        return build_corruption(name, options)
    is_whole = isinstance(found.severities[0], int)
    value = int(rng.integers(low, high[0] + 1)) if is_whole else float(rng.uniform(low, high[0]))
    return build_corruption(name, {**options, found.severity: value})


def corruptions_among(augment: Any) -> tuple[Any, Mapping[str, Any] | None]:
    """A modality's option `augment` in two: what is the transform's own, None for nothing, and the corruptions.

    Example:
        >>> corruptions_among(["crop_flip", {"blur": {"fraction": 0.1}}])
        ('crop_flip', {'blur': {'fraction': 0.1}})

    Raises:
        ValueError: a list of more than the two.
    """
    if isinstance(augment, list) and not any(isinstance(part, Mapping) for part in augment):
        return augment, None
    parts = augment if isinstance(augment, list) else [augment]
    own = [part for part in parts if part is not None and not isinstance(part, Mapping)]
    corruptions = [part for part in parts if isinstance(part, Mapping)]
    if len(own) > 1 or len(corruptions) > 1:
        raise ValueError(
            f"expected augment as {{corruption: options}}, as an option of the transform, or as a list of both, found "
            f"{augment!r}. Correct it."
        )
    return (own[0] if own else None), (corruptions[0] if corruptions else None)
