"""Deterministic splits of rows, and tables cut along them into a `datasets.DatasetDict`.

The order comes from SHA-1 of the names, so it depends neither on Python's hash seed nor on the order of the rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from datasets import Dataset, DatasetDict, DatasetInfo, Features

SPLITS = ("train", "validation", "test")
RELEASED_SPLITS = {"train": "train", "valid": "validation", "test": "test"}  # as files name them, as we do


def held_out_groups(groups: Sequence[str], fraction: float) -> set[str]:
    """Whole groups (videos, speakers) that together hold at least `fraction` of the rows.

    Groups are taken in the order of the SHA-1 of their names until the fraction is reached, so the result exceeds it
    by less than one group.

    Args:
        groups: the group of every row, length (rows,).
        fraction: share of the rows to hold out, in (0, 1).

    Returns:
        names of the held-out groups.

    Raises:
        ValueError: `fraction` is out of range, or no group would be left.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"Expected a fraction in (0, 1), found {fraction}. Choose a share such as 0.1.")
    names, sizes = np.unique(np.asarray(groups, dtype=str), return_counts=True)
    order = sorted(range(len(names)), key=lambda index: hashlib.sha1(str(names[index]).encode()).hexdigest())
    reached = np.cumsum(sizes[order]) >= fraction * sizes.sum()
    number = int(np.argmax(reached)) + 1
    if number >= len(names):
        raise ValueError(
            f"Expected some of the {len(names)} groups to stay in training, found that holding out {fraction:.0%} of "
            "the rows takes them all. Lower the fraction."
        )
    return {str(names[index]) for index in order[:number]}


def with_held_out(
    row_splits: Sequence[str | None], groups: Sequence[str], split: str = "validation", fraction: float = 0.1
) -> list[str | None]:
    """Move whole groups of the training rows to another split; see `held_out_groups`.

    Args:
        row_splits: split of every row, length (rows,).
        groups: group (clip, video, speaker) of every row, length (rows,).
        split: where the held-out rows go.
        fraction: their share of the training rows, in (0, 1).

    Returns:
        split of every row, length (rows,).
    """
    rows = list(zip(row_splits, groups, strict=True))
    held_out = held_out_groups([group for part, group in rows if part == "train"], fraction)
    return [split if part == "train" and group in held_out else part for part, group in rows]


def cut_table(table: pa.Table, row_splits: Sequence[str | None], features: Features) -> DatasetDict:
    """Cut a table into train, validation and test.

    Args:
        table: columns as in `features`, stored as these features store them; length rows.
        row_splits: "train", "validation" or "test" for every row, length (rows,). Rows with `None` are left out.
        features: columns and types of the result, in order.

    Returns:
        the three splits, rows in table order.

    Raises:
        ValueError: a split has an unknown name.
    """
    row_splits = np.asarray(row_splits, dtype=object)
    unknown = set(row_splits) - {*SPLITS, None}
    if unknown:
        raise ValueError(f"Expected the splits {SPLITS}, found {sorted(map(str, unknown))}. Rename them.")
    table = table.select(list(features)).cast(features.arrow_schema)
    return DatasetDict(
        {
            split: Dataset(table.take(np.flatnonzero(row_splits == split)), info=DatasetInfo(features=features))
            for split in SPLITS
        }
    )
