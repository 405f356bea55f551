"""What a data set leaves out and why (dead clips, unmatched keys), kept with the data so that a run can record it.

The record is JSON in `DatasetInfo.description`, which `map`, `select` and `save_to_disk` carry along.
"""

import json
import logging
from collections.abc import Mapping, Sequence

from datasets import Dataset, DatasetDict

logger = logging.getLogger(__name__)
SHOWN = 5


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
        report = {**split_report(dataset), reason: list(items)}
        dataset.info.description = json.dumps(report)
        logger.warning("%s, %s: %d %s left out: %s", name, split, len(items), reason, shortened(items))


def split_report(dataset: Dataset) -> dict[str, list[str]]:
    """The notes of one split, empty for data from elsewhere."""
    try:
        report = json.loads(dataset.info.description or "{}")
    except json.JSONDecodeError:
        return {}
    return report if isinstance(report, dict) else {}


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
