"""Other splits of a loaded data set: few labelled rows per class, and folds of which each is the test split once."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from datasets import DatasetDict, IterableDatasetDict, concatenate_datasets
from numpy.typing import ArrayLike

from .data_report import AS_GIVEN, HELD_OUT, note_held_out, record, split_report
from .splits import SPLITS
from .validation import GROUP, LABELS


def draw_per_class(labels: ArrayLike, count: int, seed: int) -> np.ndarray:
    """At most `count` rows of each class at random; a class with fewer rows gives all of them.

    Args:
        labels: integers `(rows,)`.
        count: at least 1.
        seed: of the draw.

    Returns:
        row numbers in ascending order, int64.

    Example:
        >>> draw_per_class([0, 1, 0, 1, 1], 2, seed=0).tolist()
        [0, 1, 2, 4]
    """
    labels = np.asarray(labels)
    generator = np.random.default_rng(seed)
    drawn = [generator.permutation(np.flatnonzero(labels == label))[:count] for label in np.unique(labels)]
    return np.sort(np.concatenate(drawn))


def fold_of_rows(labels: ArrayLike, groups: ArrayLike | None, folds: int) -> np.ndarray:
    """The fold of every row: the classes are spread evenly, and a group is never divided.

    Args:
        labels: `(rows,)`, class numbers; or floats, numbers to predict, which are not spread.
        groups: `(rows,)`; None where any two rows may be in different folds.
        folds: their number, at least 3.

    Returns:
        int64 `(rows,)` in [0, folds). It depends on the rows alone, with as many groups as folds every fold is one.

    Raises:
        ValueError: fewer groups, or fewer rows of every class, than folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold  # slow to import

    labels = np.asarray(labels)
    if np.issubdtype(labels.dtype, np.floating):
        labels = np.zeros(len(labels), np.int64)
    if groups is None:
        largest = int(np.unique(labels, return_counts=True)[1].max())
        if largest < folds:
            raise ValueError(f"folds: expected at most {largest}, the rows of the largest class, found {folds}.")
        parts = StratifiedKFold(folds, shuffle=True, random_state=0).split(labels, labels)
    else:
        groups = np.asarray(groups).astype(str)
        if (found := len(np.unique(groups))) < folds:
            raise ValueError(f"folds: expected at most {found}, the number of groups, found {folds}.")
        parts = StratifiedGroupKFold(folds).split(labels, labels, groups)
    fold = np.empty(len(labels), dtype=np.int64)
    for number, (_, rows) in enumerate(parts):
        fold[rows] = number
    return fold


def with_fold(dataset: DatasetDict, folds: int, fold: int) -> DatasetDict:
    """All rows of the three splits cut anew: fold `fold` is the test split, the next one validation.

    Args:
        dataset: splits of one kind of columns; the groups are those of its column `group`, if it has one.
        folds, fold: see `fold_of_rows`.

    Raises:
        ValueError: see `fold_of_rows`.
    """
    rows = concatenate_datasets([dataset[split] for split in SPLITS])
    groups = rows[GROUP][:] if GROUP in rows.column_names else None
    of_rows = fold_of_rows(rows[LABELS][:], groups, folds)
    validation = (fold + 1) % folds
    chosen = {
        "train": ~np.isin(of_rows, [fold, validation]), "validation": of_rows == validation, "test": of_rows == fold
    }  # fmt: skip
    left_out: dict[str, list[str]] = {}
    for split in SPLITS:
        for reason, items in split_report(dataset[split]).items():
            left_out.setdefault(reason, []).extend(items)
    rows.info.description = ""
    cut = DatasetDict({split: rows.select(np.flatnonzero(chosen[split])) for split in SPLITS})
    if left_out:
        cut["train"].info.description = json.dumps(left_out)  # where it would be is not known
    return cut


def with_protocol(
    dataset: DatasetDict | IterableDatasetDict, per_class: int | None, folds: int | None, fold: int, seed: int
) -> tuple[DatasetDict | IterableDatasetDict, dict[str, Any]]:
    """A data set as a protocol has it.

    Args:
        dataset: as its function returns it.
        per_class: labelled rows of a class in training, drawn by `seed`; None for all.
        folds: how many; None for the data set's own splits.
        fold: the one that is tested.
        seed: of the run.

    Returns:
        the splits, and what an interval over such runs must know: `folds`, `fold`, `groups` (whether whole groups
        were held out), `train_per_class`, and rows: `pool` (for training, before the draw), `train`, `test`. Without
        a protocol the splits are those given, and nothing is said.

    Raises:
        ValueError: a stream, a label per segment, or see `fold_of_rows`.
    """
    if per_class is None and folds is None:
        return dataset, {}
    name = "folds" if per_class is None else "train_per_class"
    if isinstance(dataset, IterableDatasetDict):
        raise ValueError(
            f"{name}: expected rows that can be counted, found a stream. Load the data without streaming."
        )
    if np.ndim(dataset["train"][LABELS][0]):
        raise ValueError(f"{name}: expected one label per row, found several. Leave {name} out.")
    if per_class is not None and np.issubdtype(np.asarray(dataset["train"][LABELS][:1]).dtype, np.floating):
        raise ValueError(
            "train_per_class: expected class numbers, found numbers to predict. Leave train_per_class out."
        )
    facts: dict[str, Any] = {}
    if folds is not None:
        facts |= {"folds": folds, "fold": fold, "groups": GROUP in dataset["train"].column_names}
        kept = "whole groups" if facts["groups"] else "rows of every class"
        dataset = note_held_out(with_fold(dataset, folds, fold), f"fold {fold} of {folds} for test, {kept} held out")
    facts["pool"] = len(dataset["train"])
    if per_class is not None:
        facts["train_per_class"] = per_class
        rows = draw_per_class(dataset["train"][LABELS][:], per_class, seed)
        dataset = DatasetDict({**dataset, "train": dataset["train"].select(rows)})
        how = record(dataset["train"]).get(HELD_OUT, AS_GIVEN)
        note_held_out(dataset, f"{how}, at most {per_class} training rows of a class")
    return dataset, {**facts, "train": len(dataset["train"]), "test": len(dataset["test"])}
