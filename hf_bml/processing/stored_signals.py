"""Signals in the columns of a table on the disk, and what corruptions in training take from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice

import numpy as np
import pyarrow as pa
from datasets import Dataset, IterableDataset
from torch import Tensor

from .corruptions.vector import training_std
from .kept_files import remembered_state, store_state
from .modality_transforms import ModalityTransforms
from .tensor_storage import decode_value
from .transforms.base import Signal

POOL = 64  # rows that babble in training is mixed of


class StoredSignals(Sequence):
    """A modality's signals by the number of the raw row, read from the disk one at a time; `None` where there is none.

    Args:
        split: a table with a column of signals, or of texts.
        name: the column.
        rows: the raw row's number of each row of the table.
        count: how many raw rows there were.
    """

    def __init__(self, split: Dataset, name: str, rows: Sequence[int], count: int):
        self._column = split.with_format("arrow").select_columns([name])
        self._positions = {row: position for position, row in enumerate(rows)}
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, row: int) -> Signal | None:
        if not 0 <= row < self._count:
            raise IndexError(row)
        if row not in self._positions:
            return None
        table: pa.Table = self._column[self._positions[row]]
        stored = table.column(0)[0].as_py()
        return stored if isinstance(stored, str) else decode_value(stored)


def material_of_split(
    transforms: ModalityTransforms, signals: Mapping[str, Sequence[Signal | None]], fingerprint: str
) -> dict[str, dict[str, str]]:
    """What the augmentations need of the training split, stored, by modality: `{"others" or "std": its name}`.

    Args:
        transforms: with `augmentations`.
        signals: of the training split, by modality.
        fingerprint: of that split: what was computed for it before is found again.

    Raises:
        ValueError: too few rows with sound for babble, or no vectors.
    """
    material: dict[str, dict[str, str]] = {}
    for name, augmentation in transforms.augmentations.items():
        for what in sorted(augmentation.needs & {"others", "std"}):
            make = partial(spread if what == "std" else drawn_pool, name, signals[name])
            material.setdefault(name, {})[what] = remembered_state(f"{fingerprint}-{name}-{what}", make)
    return material


def spread(name: str, signals: Sequence[Tensor | None]) -> dict[str, Tensor]:
    """The state of `training_std`."""
    return {"std": training_std(signals)}


def drawn_pool(name: str, signals: Sequence[Tensor | None]) -> dict[str, Tensor]:
    """The state of POOL signals at random; see `pool_state`."""
    order = np.random.default_rng(0).permutation(len(signals)).tolist()
    rows = sorted(islice((row for row in order if _is_audible(signals[row])), POOL))
    return pool_state(name, [signals[row] for row in rows])


def material_of_stream(transforms: ModalityTransforms, rows: IterableDataset) -> dict[str, dict[str, str]]:
    """As `material_of_split`, of the first rows of the stream as it is given, undecoded.

    Raises:
        ValueError: as there; or something is needed that takes a pass over all rows.
    """
    material = {}
    for name, augmentation in transforms.augmentations.items():
        if "std" in augmentation.needs:
            raise ValueError(
                f"modality {name!r}: feature_noise expects the spread of the features over the training split, found "
                "a stream, which would be read for it. Load the data without streaming."
            )
        if "others" in augmentation.needs:
            values = (row[name] for row in islice(rows, 4 * POOL))
            found = (transforms.read(name, [value], failures=[])[0] for value in values)
            pool = list(islice((signal for signal in found if _is_audible(signal)), POOL))
            material[name] = {"others": store_state(pool_state(name, pool))}
    return material


def pool_state(name: str, pool: list[Tensor]) -> dict[str, Tensor]:
    """Signals as a state that can be stored.

    Raises:
        ValueError: fewer than two: a clip is not mixed with itself.
    """
    if len(pool) < 2:
        raise ValueError(
            f"modality {name!r}: babble expects at least 2 training rows with sound, found {len(pool)}. Use "
            "white_noise."
        )
    return {f"{index:04d}": signal for index, signal in enumerate(pool)}


def _is_audible(signal: Tensor | None) -> bool:
    return signal is not None and bool(signal.any())
