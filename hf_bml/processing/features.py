"""Precomputed features: vectors, or sequences of vectors over time."""

from typing import Any

import numpy as np
import torch
from torch import Tensor


class FeatureVector:
    """Numbers -> float32 tensor `(dim,)`, or `(time, dim)` for a sequence of vectors.

    Args:
        input_size: Required `dim`; `None` accepts any.

    Raises:
        ValueError: A value is not a 1-D or 2-D array of finite numbers, is empty, or has another `dim`.

    Example:
        >>> FeatureVector(input_size=2)([[1, 2], [[1, 2], [3, 4], [5, 6]]])[1].shape
        torch.Size([3, 2])
    """

    is_random = False
    reads_files = False
    output_keys = None

    def __init__(self, input_size: int | None = None):
        self.input_size = input_size

    def __call__(self, values: list[Any], training: bool = False) -> list[Tensor]:
        """Transform every value; `training` changes nothing."""
        return [self._read(value) for value in values]

    def _read(self, value: Any) -> Tensor:
        try:
            array = np.array(value, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"Expected numbers of shape (dim,) or (time, dim), found: {error}. Give all rows the same length."
            ) from error
        if array.ndim not in (1, 2) or array.size == 0:
            raise ValueError(
                f"Expected a non-empty array of shape (dim,) or (time, dim), found shape {array.shape}. "
                "Reshape the features, or set them to None if they are absent."
            )
        if self.input_size is not None and array.shape[-1] != self.input_size:
            raise ValueError(
                f"Expected input_size={self.input_size} features, found shape {array.shape}. "
                "Set input_size to the last dimension."
            )
        if not np.isfinite(array).all():
            raise ValueError(
                f"Expected finite features, found {int((~np.isfinite(array)).sum())} NaN or infinite of {array.size}. "
                "Replace them, for instance by 0, when building the dataset."
            )
        return torch.from_numpy(array)
