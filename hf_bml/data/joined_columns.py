"""Two or more unimodal sources side by side, matched by a key."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from datasets import Dataset, LargeList, List, Value, concatenate_datasets

from .columns import class_name, column_values, field_of, has_column
from .data_report import add_to_report, shortened


def join_sources(
    sources: Sequence[Dataset],
    keys: Sequence[str],
    wanted: Sequence[str],
    labels: Sequence[str],
    name: str,
    split: str,
) -> Dataset:
    """Rows of all sources with equal keys side by side, in the order of the first source.

    The first of several rows with one key counts. Repeated and unmatched keys, and rows without one, go to the
    report; rows and sources count from 0.

    Args:
        sources: one split of each source.
        keys: key column of each source; that of a media column is its file's stem.
        wanted: columns that must not occur in two sources. Of others the first source's is kept.
        labels: columns of the label; sources that have one must agree.
        name: shown in errors.
        split: shown in errors.

    Raises:
        ValueError: a key column is missing, no key is in all sources, a wanted column is in two, or two sources give a
            joined row another label.
    """
    positions: list[dict[str, int]] = []
    repeated, without = [], []
    for number, (source, column) in enumerate(zip(sources, keys, strict=True)):
        if column not in source.column_names:
            raise ValueError(
                f"Expected the key column {column!r} in every source of '{name}', found {source.column_names}. "
                "Correct join_on."
            )
        positions.append({})
        for row, key in enumerate(map(key_text, column_values(source, column))):
            if key is None:
                without.append(f"row {row} of source {number}")
            elif positions[-1].setdefault(key, row) != row:
                repeated.append(key)
    common = [key for key in positions[0] if all(key in position for position in positions)]
    if not common:
        first, second = (shortened(list(position)) or "none" for position in positions[:2])
        raise ValueError(
            f"Expected common keys in the columns {list(keys)} of '{name}', split '{split}', found {first} in the "
            f"first and {second} in the second source. Correct join_on."
        )
    for label in labels:
        check_labels_agree(sources, positions, common, label, name, split)
    parts: list[Dataset] = []
    for source, position in zip(sources, positions, strict=True):
        taken = {column for part in parts for column in part.column_names}
        twice = sorted(taken & set(wanted) & set(source.column_names))
        if twice:
            raise ValueError(
                f"Expected the columns {twice} in one source of '{name}' only. Rename those of the others."
            )
        part = source.select([position[key] for key in common])
        parts.append(part.select_columns([column for column in part.column_names if column not in taken]))
    joined = concatenate_datasets(parts, axis=1)
    unmatched = sorted({key for position in positions for key in position} - set(common))
    add_to_report(joined, name, split, "unmatched keys", unmatched)
    add_to_report(joined, name, split, "repeated keys", sorted(set(repeated)))
    add_to_report(joined, name, split, "rows without a key", without)
    return joined


def key_text(key: Any) -> str | None:
    """How keys are compared: `1` equals `1.0`, which pandas makes of integers with gaps; None for a missing key.

    Example:
        >>> key_text(7), key_text(7.0), key_text("clip"), key_text(float("nan")), key_text(None), key_text("")
        ('7', '7', 'clip', None, None, None)
    """
    if isinstance(key, float):
        if math.isnan(key):
            return None
        key = int(key) if key.is_integer() else key
    return None if key is None else str(key) or None


def label_text(kind: Any, value: Any) -> str | None:
    """How labels are compared: classes by name, in any order of a list of names, floats in their precision of 32 bit;
    None for a missing one.

    Example:
        >>> from datasets import List, Value
        >>> label_text(Value("float64"), 60.0), label_text(List(Value("string")), ["b", "a"])
        ('60', "['a', 'b']")
    """
    if isinstance(kind, List | LargeList):
        of_numbers = isinstance(kind.feature, Value) and "string" not in kind.feature.dtype
        texts = None if value is None else [label_text(kind.feature, part) for part in value]
        return None if texts is None else str(texts if of_numbers else sorted(map(str, texts)))
    return key_text(float(np.float32(value))) if isinstance(value, float) else class_name(kind, value)


def check_labels_agree(
    sources: Sequence[Dataset],
    positions: Sequence[Mapping[str, int]],
    common: Sequence[str],
    label: str,
    name: str,
    split: str,
) -> None:
    """Raises ValueError where two sources give a joined row another label; a missing label is compatible with any."""
    seen: dict[str, tuple[int, str]] = {}
    for number, (source, position) in enumerate(zip(sources, positions, strict=True)):
        if not has_column(source, label):
            continue
        kind, values, differing = field_of(source.features, label), column_values(source, label), []
        for key in common:
            found = label_text(kind, values[position[key]])
            if found is not None and seen.setdefault(key, (number, found))[1] != found:
                differing.append((key, found))
        if differing:
            key, found = differing[0]
            first, given = seen[key]
            raise ValueError(
                f"Expected one label {label!r} for each joined row of '{name}', split '{split}', found {given!r} in "
                f"source {first} and {found!r} in source {number} for the key {key!r} ({len(differing)} such keys). "
                "Correct them, or rename the column in the source that does not have the classes."
            )
