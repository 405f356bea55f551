"""Columns of a streamed source as modalities and labels: everything is decided row by row."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from datasets import ClassLabel, Features, IterableDataset, IterableDatasetDict

from .columns import class_name, field_of
from .splits import SPLITS


def streamed(
    splits: Mapping[str, IterableDataset],
    modalities: Mapping[str, str],
    label: str,
    classes: Sequence[str] | None,
    group: str | None,
    fractions: Mapping[str, float],
    name: str,
) -> IterableDatasetDict:
    """See `from_columns`; no row is read here.

    Args:
        splits: Undecoded, train at least.
        modalities: Column of each modality.
        label: Column of the class.
        classes: Class names; None takes those that the label column declares.
        group: Column whose equal values stay in one split; None takes the number of the row.
        fractions: Share of train of the held-out splits, for those that are not in `splits`.
        name: Shown in errors.

    Raises:
        ValueError: The class names are not known beforehand.
    """
    features = splits["train"].features
    kind = field_of(features, label)
    names = list(classes or getattr(kind, "names", []))
    if not names:
        raise ValueError(f"Expected the classes of '{name}' for streaming, found the type {kind}. Pass classes=[...].")

    index = {known: number for number, known in enumerate(names)}

    def is_known(row: dict[str, Any]) -> bool:
        return class_name(kind, field_of(row, label)) in index

    def convert(row: dict[str, Any]) -> dict[str, Any]:
        media = {modality: row[column] for modality, column in modalities.items()}
        return {**media, "labels": index[class_name(kind, field_of(row, label))]}

    def is_within(row: dict[str, Any], position: int, start: float, end: float) -> bool:
        key = str(position if group is None else field_of(row, group))
        return start <= int.from_bytes(hashlib.sha1(key.encode()).digest()[:8], "big") / 2**64 < end

    ranges, start = {}, 0.0
    for split, fraction in fractions.items():
        if split not in splits:
            ranges[split] = (start, start + fraction)
            start += fraction
    if start:
        ranges["train"] = (start, 1.0)
    target = Features({**{modality: features[column] for modality, column in modalities.items()}})
    target["labels"] = ClassLabel(names=names)
    result = {}
    for split in SPLITS:
        rows = splits.get(split, splits["train"])
        if split in ranges:
            start, end = ranges[split]
            rows = rows.filter(is_within, with_indices=True, fn_kwargs={"start": start, "end": end})
        rows = rows.filter(is_known)
        result[split] = rows.map(convert, remove_columns=list(features), features=target)
    return IterableDatasetDict(result)
