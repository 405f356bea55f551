"""The part of the training split that is held out for modulations."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import datasets
import numpy as np
from torch.utils.data import Subset
from transformers import Trainer


@runtime_checkable
class IndexedRows(Protocol):
    """Rows with a length and an index."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> Any: ...


def hold_out(dataset: Any, fraction: float, seed: int) -> tuple[Any, Any]:
    """Splits a training dataset into what remains and a random held-out part, the same on every process.

    Args:
        dataset: with a length and an index.
        fraction: share to hold out, in (0, 1).
        seed: decides which samples.

    Raises:
        ValueError: one of the two parts would be empty, or the dataset has no length.
    """
    if not isinstance(dataset, IndexedRows):
        raise ValueError(
            f"A modulation holds {fraction:.0%} of the training split out, which needs a dataset with a length and an "
            f"index; found {type(dataset).__name__}. Load the data without streaming."
        )
    size = round(fraction * len(dataset))
    if not 0 < size < len(dataset):
        raise ValueError(
            f"Holding {fraction:.0%} out of {len(dataset)} training samples leaves one part empty. Train on more "
            "samples, or change the modulation's held_out."
        )
    order = np.random.default_rng(seed).permutation(len(dataset))
    return selected(dataset, np.sort(order[size:])), selected(dataset, np.sort(order[:size]))


def selected(dataset: Any, rows: np.ndarray) -> Any:
    """The rows of a dataset with these numbers."""
    return dataset.select(rows) if isinstance(dataset, datasets.Dataset) else Subset(dataset, rows.tolist())


class HoldingOutTrainer(Trainer):
    """Trains without a part of the training split.

    Attributes:
        held_out_dataset: that part; None if nothing is held out.
    """

    held_out_dataset: Any = None
    _split: tuple[Any, Any] = None, None  # the training split, whole and without the held-out part

    def set_aside(self, fraction: float) -> None:
        """Holds out a share of the training split, in [0, 1), in the place of what was held out before.

        Raises:
            ValueError: see `hold_out`.
        """
        whole, rest = self._split
        if self.train_dataset is rest:
            self.train_dataset = whole
        self.held_out_dataset = None
        if fraction and self.train_dataset is not None:
            whole = self.train_dataset
            self.train_dataset, self.held_out_dataset = hold_out(whole, fraction, self.args.seed)
            self._split = whole, self.train_dataset
