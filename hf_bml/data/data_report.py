"""What a data set leaves out and why (dead clips, unmatched keys), and how its splits were made.

It is kept with the data so that a run can say and record it.

The record is JSON in `DatasetInfo.description`, which `map`, `select` and `save_to_disk` carry along.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence

from datasets import Dataset, DatasetDict, IterableDatasetDict

logger = logging.getLogger(__name__)
SHOWN = 5
HELD_OUT = "held out"  # in a record, beside the reasons
AS_GIVEN = "splits as the data set gives them"


def add_to_report(dataset: Dataset, name: str, split: str, reason: str, items: Sequence[str]) -> None:
    """Note items that a split lacks, and log their number and the first few; does nothing for no items.

    Args:
        dataset: the split; its `info` keeps the note.
        name: name of the data set, for the log.
        split: name of the split, for the log.
        reason: what is wrong with them, e.g. "missing files".
        items: their names, all of which are kept.
    """
    if items:
        dataset.info.description = json.dumps({**record(dataset), reason: list(items)})
        logger.warning("%s, %s: %d %s left out: %s", name, split, len(items), reason, shortened(items))


def note_held_out(splits: DatasetDict | IterableDatasetDict, how: str) -> DatasetDict | IterableDatasetDict:
    """The same splits, which know how they were made; `how` is the end of a line as `data_line` writes it."""
    train = splits["train"]
    train.info.description = json.dumps({**record(train), HELD_OUT: how})
    return splits


def data_line(name: str, splits: DatasetDict | IterableDatasetDict, classes: int | None) -> str:
    """What a run trains on, in a line: rows per split, classes (None of numbers), what was held out and grouped by.

    Example:
        >>> pets = DatasetDict({"train": Dataset.from_dict({"labels": [0, 1]})})
        >>> data_line("pets", note_held_out(pets, "test held out of train, grouped by owner"), 2)
        'pets: train 2 rows; 2 classes; test held out of train, grouped by owner'
    """
    if isinstance(splits, IterableDatasetDict):
        rows = f"{', '.join(splits)} streamed, rows not counted"
    else:
        rows = ", ".join(f"{split} {len(own)}" for split, own in splits.items()) + " rows"
    how = record(splits["train"]).get(HELD_OUT, AS_GIVEN)
    return f"{name}: {rows}; {'' if classes is None else f'{classes} classes; '}{how}"


def record(dataset: Dataset) -> dict[str, str | list[str]]:
    """Everything that is kept with one split, empty for data from elsewhere."""
    try:
        found = json.loads(dataset.info.description or "{}")
    except json.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def split_report(dataset: Dataset) -> dict[str, list[str]]:
    """The notes of one split on what it lacks, empty for data from elsewhere."""
    return {reason: items for reason, items in record(dataset).items() if reason != HELD_OUT}


def data_report(dataset: Mapping[str, Dataset] | DatasetDict) -> dict[str, dict[str, list[str]]]:
    """What is left out of each split: `{split: {reason: names}}`, JSON-able, without splits that are complete.

    Example:
        >>> train = Dataset.from_dict({"labels": [0]})
        >>> add_to_report(train, "pets", "train", "missing files", ["cat_3", "dog_7"])
        >>> data_report({"train": train})
        {'train': {'missing files': ['cat_3', 'dog_7']}}
    """
    reports = {split: split_report(rows) for split, rows in dataset.items()}
    return {split: report for split, report in reports.items() if report}


def shortened(items: Sequence[str]) -> str:
    """The first few items, and how many more there are."""
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return ", ".join(map(str, items[:SHOWN])) + more
