"""Precomputed features: vectors, sequences of vectors over time, or frames of vectors at their positions."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..media.file import media_file, one_line
from .base import Transform


@dataclass(eq=False)
class FeatureVector(Transform):
    """Numbers, or a `.npy` file of them -> float32 tensor `(dim,)`, `(time, dim)` or `(frames, positions, dim)`.

    A file is given as its path or as `{"bytes", "path"}`. It is read whenever its sample is, since a copy in the cache
    would take as long to read, and more room where samples share a file.

    Usage: `processors: {pose: {type: features, standardize: true}}`

    Args:
        input_size: required `dim`; `None` accepts any.
        step: keep every `step`-th vector of a sequence, or frame, from the first on: of one a second, 6 keeps ten of a
            minute. Vectors without time need 1.
        standardize: subtract the training split's mean of each of the `dim` numbers and divide by its standard
            deviation, over all times and positions; what never changes there becomes 0. It is learned by `fit`:
            `MultimodalProcessor.apply` fits on the training split and keeps what was learned.

    Raises:
        ValueError: A value is not an array of finite numbers with 1 to 3 axes, is empty, or has another `dim`; or a
            file cannot be read. Nothing to fit on, or not fitted when called.

    Example:
        >>> FeatureVector(input_size=2)([[1, 2], [[1, 2], [3, 4], [5, 6]]])[1].shape
        torch.Size([3, 2])
    """

    learns = "state"
    signal = "vector"
    stores_files = False

    input_size: int | None = None
    step: int = 1
    standardize: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.step, bool) or not isinstance(self.step, int) or self.step < 1:
            raise ValueError(f"Expected step to be an integer >= 1, found {self.step!r}.")
        if not isinstance(self.standardize, bool):
            raise ValueError(f"Expected standardize to be true or false, found {self.standardize!r}.")
        self._state: dict[str, Tensor] | None = None

    @property
    def is_fitted(self) -> bool:
        return not self.standardize or self._state is not None

    @property
    def zeros(self) -> str:
        """What an input of zeros stands for."""
        return f"features that are all {'average' if self.standardize else 0}, which no clip may have"

    @property
    def sizes(self) -> dict[str, int | None]:
        return {"input_size": self.input_size}

    def from_signal(self, signal: Tensor, training: bool = False) -> Tensor:
        """The features, standardized or as they are."""
        return self._standardized(signal) if self.standardize else signal

    def fit(self, extracted: Sequence[Tensor]) -> dict[str, Tensor]:
        """Mean and standard deviation of each number.

        Args:
            extracted: of the training split, each of a shape that ends in `dim`; read twice, one after the other.

        Returns:
            what `load_state` takes: "mean" and "std", float64 (dim,); the latter is 0 for what never changes.

        Raises:
            ValueError: nothing to fit on, or features of different `dim`.
        """
        if not len(extracted):
            raise ValueError("Expected features to standardize by, found none in the training split.")
        size = extracted[0].shape[-1]
        count, total = 0, torch.zeros(size, dtype=torch.float64)
        low, high = torch.full((size,), torch.inf), torch.full((size,), -torch.inf)
        for array in extracted:
            if array.shape[-1] != size:
                raise ValueError(f"Expected features of one size to standardize, found {size} and {array.shape[-1]}.")
            vectors = array.reshape(-1, size)
            count, total = count + len(vectors), total + vectors.double().sum(0)
            low, high = torch.minimum(low, vectors.amin(0)), torch.maximum(high, vectors.amax(0))
        mean = total / count
        squares = sum((array.reshape(-1, size) - mean).square().sum(0) for array in extracted)
        return {"mean": mean, "std": (squares / count).sqrt() * (high > low)}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take `fit`'s result.

        Raises:
            ValueError: it is of another transform, or of one with other options.
        """
        found = {name: tuple(tensor.shape) for name, tensor in state.items()}
        size = self.input_size or (state["mean"].numel() if "mean" in state else 0)
        expected = {"mean": (size,), "std": (size,)} if self.standardize else {}
        if found != expected:
            raise ValueError(f"Expected a state with {expected}, found {found}. Fit again with these options.")
        self._state = state

    def _standardized(self, array: Tensor) -> Tensor:
        if self._state is None:
            raise ValueError("Expected standardized features that were fitted. Call load_state(fit(extract(values))).")
        mean, std = self._state["mean"], self._state["std"]
        if array.shape[-1] != len(mean):
            raise ValueError(
                f"Expected the {len(mean)} features that were standardized by, found shape {tuple(array.shape)}."
            )
        return torch.where(std > 0, (array - mean) / std.where(std > 0, 1.0), 0.0).float()

    def read(self, value: Any) -> Tensor:
        """The checked features."""
        file = media_file(value, "array")
        if file is None:
            return self._tensor(value)
        content, name = file
        try:
            return self._tensor(read_npy(content))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error

    def _tensor(self, value: Any) -> Tensor:
        try:
            array = value if isinstance(value, np.ndarray) else np.array(value, dtype=np.float32)
            shape = array.shape
            if array.dtype.kind == "c":
                raise TypeError("complex ones. Split them into real and imaginary part")
            with np.errstate(over="ignore"):  # infinity is refused below
                array = np.array(array[:: self.step] if array.ndim > 1 else array, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"Expected numbers of shape (dim,), (time, dim) or (frames, positions, dim), found: {error}. Give all "
                "rows the same length."
            ) from error
        if array.ndim not in (1, 2, 3) or array.size == 0:
            raise ValueError(
                f"Expected a non-empty array of shape (dim,), (time, dim) or (frames, positions, dim), found shape "
                f"{shape}. Reshape the features, or set them to None if they are absent."
            )
        if array.ndim == 1 and self.step > 1:
            raise ValueError(
                f"Expected (time, dim) or (frames, positions, dim) for step={self.step}, found shape {shape}. Leave "
                "step out."
            )
        if self.input_size is not None and array.shape[-1] != self.input_size:
            raise ValueError(
                f"Expected input_size={self.input_size} features, found shape {shape}. "
                "Set input_size to the last dimension."
            )
        if not np.isfinite(array).all():
            raise ValueError(
                f"Expected finite features, found {int((~np.isfinite(array)).sum())} NaN or infinite of {array.size}. "
                "Replace them, for instance by 0, when building the dataset."
            )
        return torch.from_numpy(array)


def read_npy(content: bytes | str) -> np.ndarray:
    """Array of a `.npy` file, given by its bytes or its path: of the latter, only what is used is read from disk.

    Raises:
        ValueError: not a `.npy` file of numbers; nothing is unpickled.
    """
    try:
        if isinstance(content, bytes):
            return np.load(io.BytesIO(content), allow_pickle=False)
        return np.load(content, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a damaged header raises nearly anything
        raise ValueError(
            f"Expected a .npy file of numbers, found: {one_line(error)}. Save it with numpy.save."
        ) from error
