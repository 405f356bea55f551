"""Columns of a streamed source as modalities and labels: everything is decided row by row.

A row's split follows from what is in the row, never from its position: a shuffled stream, one that several workers
read, or one that is split across nodes, counts its rows in another order.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Features, IterableDataset, IterableDatasetDict

from .columns import field_of
from .label_columns import Label, label_of, label_reader
from .splits import SPLITS


def streamed(
    splits: Mapping[str, IterableDataset],
    modalities: Mapping[str, str],
    label: Label,
    classes: Sequence[str] | None,
    numbers: bool,
    group: str | None,
    part_of: Callable[[Any], str],
    fractions: Mapping[str, float],
    name: str,
) -> IterableDatasetDict:
    """See `from_columns`; no row is read here.

    Args:
        splits: undecoded, train at least.
        modalities: column of each modality.
        label: column of the label, or several.
        classes: class names, rows of other classes are left out; None takes those that the label column declares.
        numbers: see `from_columns`.
        group: column whose equal values stay in one split; of media, the stems of the files. None takes the content of
            the modalities' columns.
        part_of: from that column's value to the group, see `group_part`.
        fractions: share of train of the held-out splits, for those that are not in `splits`.
        name: shown in errors.

    Raises:
        ValueError: the class names are not known beforehand, a split declares none of train's, or the fractions leave
            nothing. While rows are read: a row has no label, or one that no split declares where `classes` is None; a
            split must be held out, and a row tells nothing that stays the same to decide by.
    """
    features = splits["train"].features
    kinds = {split: label_of(rows.features, label) for split, rows in splits.items()}
    reader = label_reader(kinds, label, classes, numbers, None, name)

    def read(row: dict[str, Any], split: str) -> Any:
        value = label_of(row, label)
        try:
            found = reader.read(split, value)
        except ValueError as error:
            raise ValueError(f"Split '{split}' of '{name}': {error}.") from error
        given = reader.names_in(split, value) if found is None else []
        if found is None and not (given and classes):
            raise ValueError(
                f"Expected {reader.expected} in every row of split '{split}' of '{name}', found {value!r}. Drop these "
                f"rows{', or pass classes' if given else ''}."
            )
        return found

    def is_known(row: dict[str, Any], split: str) -> bool:
        return read(row, split) is not None

    def convert(row: dict[str, Any], split: str) -> dict[str, Any]:
        media = {modality: row[column] for modality, column in modalities.items()}
        return {**media, "labels": read(row, split)}

    def is_within(row: dict[str, Any], start: float, end: float) -> bool:
        key = content_key(row, modalities.values(), name) if group is None else part_of(group_key(row, group, name))
        return start <= int.from_bytes(hashlib.sha1(key.encode()).digest()[:8], "big") / 2**64 < end

    ranges, start = {}, 0.0
    held_out = {split: fraction for split, fraction in fractions.items() if split not in splits}
    if not all(0 < fraction < 1 for fraction in held_out.values()) or sum(held_out.values()) >= 1:
        raise ValueError(
            f"Expected fractions of train in (0, 1), less than 1 together, to hold out of the stream of '{name}', "
            f"found {held_out}. Choose shares such as 0.1."
        )
    for split, fraction in held_out.items():
        ranges[split] = (start, start + fraction)
        start += fraction
    if held_out:
        ranges["train"] = (start, 1.0)
    target = Features({**{modality: features[column] for modality, column in modalities.items()}})
    target["labels"] = reader.feature
    result = {}
    for split in SPLITS:
        source = split if split in splits else "train"
        rows = splits[source]
        columns = list(rows.features)
        if split in ranges:
            start, end = ranges[split]
            rows = rows.filter(is_within, fn_kwargs={"start": start, "end": end})
        rows = rows.filter(is_known, fn_kwargs={"split": source})
        result[split] = rows.map(convert, fn_kwargs={"split": source}, remove_columns=columns, features=target)
    return IterableDatasetDict(result)


def group_key(row: Mapping[str, Any], group: str, name: str) -> str:
    """A row's group; of media, the file's stem.

    Raises:
        ValueError: the group is a media column, and the file's name is unknown.
    """
    value = field_of(row, group)
    if not _is_media(value):
        return str(value)
    if not value["path"]:
        raise ValueError(
            f"Expected names of files in the column {group!r} of '{name}' to hold a split out by, found a file "
            "without one. Pass another group, or none to hold out by the content."
        )
    return Path(value["path"]).stem


def content_key(row: Mapping[str, Any], columns: Iterable[str], name: str) -> str:
    """What is in some columns of a row, media by their bytes: the same wherever and in any order it is read.

    Raises:
        ValueError: a file is known by its path alone, which is another one on another machine.
    """
    content = {column: _without_path(row[column], column, name) for column in sorted(set(columns))}
    return json.dumps(content, sort_keys=True, default=_written_out)


def _without_path(value: Any, column: str, name: str) -> Any:
    if isinstance(value, list) and any(isinstance(part, dict) for part in value):
        return [_without_path(part, column, name) for part in value]
    if not _is_media(value):
        return value
    if value["bytes"] is None and value["path"]:
        raise ValueError(
            f"Expected group=COLUMN to hold a split out of the stream of '{name}' by, found none, and only the path "
            f"{value['path']!r} in {column!r}. Pass a column of speakers, videos or ids, or {column!r} for the names "
            "of its files."
        )
    return value["bytes"]


def _is_media(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"bytes", "path"}


def _written_out(value: Any) -> Any:
    """What JSON lacks: bytes by their digest, arrays as lists, dates as text."""
    if isinstance(value, bytes):
        return hashlib.sha1(value).hexdigest()
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, date | time | timedelta | Decimal):
        return str(value)
    raise ValueError(
        f"Expected group=COLUMN to hold a split out of a stream by, found none, and a {type(value).__name__}, whose "
        "content is not compared. Pass a column of speakers, videos or ids."
    )
