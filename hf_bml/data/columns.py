"""The columns of a user's data set: media undecoded, classes by name, fields of structs by `column.field`."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Audio, ClassLabel, Dataset, Image, IterableDataset, Value, Video

from ..ground.suggestion import did_you_mean
from .data_report import shortened

MEDIA = (Audio, Image, Video)


def undecoded(rows: Dataset | IterableDataset) -> Dataset | IterableDataset:
    """The same rows with audio, image and video columns as `{"bytes", "path"}`."""
    for column, kind in (rows.features or {}).items():
        if isinstance(kind, MEDIA):
            rows = rows.cast_column(column, type(kind)(decode=False))
    return rows


def check_columns(
    rows: Dataset | IterableDataset, modalities: Mapping[str, str], labels: Sequence[str], group: str | None, name: str
) -> None:
    """Raises ValueError for a column that the source lacks, naming the closest one."""
    if rows.features is None:
        raise ValueError(f"Expected a source with declared types for streaming '{name}'. Set streaming to false.")
    fields = [
        f"{column}.{field}" for column, kind in rows.features.items() if isinstance(kind, dict) for field in kind
    ]
    for column in [*modalities.values(), *labels, *([group] if group else [])]:
        valid = list(rows.features) if column in modalities.values() else [*rows.features, *fields]
        if column not in valid:
            raise ValueError(
                f"Expected a column {column!r} in '{name}', found {valid}.{did_you_mean(column, valid)} "
                "Correct modalities, label or group."
            )


def field_of(row: Mapping[str, Any], column: str) -> Any:
    """Value of a column, or of a field of one (`"json.emotion"`), in a row or the features; None if it is absent."""
    if column in row:
        return row[column]
    first, _, field = column.partition(".")
    return None if row[first] is None else row[first][field]


def has_column(rows: Dataset, column: str) -> bool:
    """Whether there is this column, or this field of one."""
    first, _, field = column.partition(".")
    return column in rows.features or (isinstance(rows.features.get(first), dict) and field in rows.features[first])


def column_values(rows: Dataset, column: str) -> list[Any]:
    """Values of a column, or of a field of one; for media, the stems of the files."""
    first = column if column in rows.features else column.partition(".")[0]
    values = [field_of({first: value}, column) for value in rows.with_format(None).select_columns([first])[first]]
    is_media = isinstance(field_of(rows.features, column), MEDIA)
    return [Path((value or {}).get("path") or "").stem for value in values] if is_media else values


def group_part(group: str | None, pattern: str | None, name: str) -> Callable[[Any], str]:
    """From a group column's value to the group: its text, or what the first `(...)` of a pattern matches in it.

    Raises:
        ValueError: a pattern without `group` or without `(...)`; when called, it does not match.

    Example:
        >>> group_part("id", "-([0-9]+)[.]mp4$", "clips")("01-03-12.mp4")
        '12'
    """
    if pattern is None:
        return str
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"Expected a regular expression as group_pattern, found {pattern!r}: {error}.") from error
    if group is None or not expression.groups:
        raise ValueError(
            f"Expected group_pattern with `(...)` around the group, and the column as group, found {pattern!r} and "
            f"group={group!r}. Give both."
        )

    def part(value: Any) -> str:
        found = expression.search(str(value))
        if found is None or found[1] is None:
            raise ValueError(
                f"Expected {pattern!r} in the column {group!r} of '{name}', found {str(value)!r:.80}. Correct "
                "group_pattern."
            )
        return found[1]

    return part


def class_name(kind: Any, value: Any) -> str | None:
    """Name of a label's class, None for a missing label: a `ClassLabel` knows it, other values are written out."""
    if value is None or (isinstance(kind, ClassLabel) and value < 0):
        return None
    return kind.int2str(value) if isinstance(kind, ClassLabel) else str(value)


def class_names(kinds: Mapping[str, Any], labels: Mapping[str, Sequence[Any]], name: str) -> list[str]:
    """The class names that the splits declare, train's first; then the other labels of all splits, sorted.

    Args:
        kinds: type of the label column per split: one may declare other names than another, or in another order.
        labels: values per split.
        name: shown in errors.

    Returns:
        each name once; numbers are sorted by value, unless there are names among them.

    Raises:
        ValueError: a label is missing, they are neither integers nor names, or a split has no class of train.
    """
    others: set[Any] = set()
    for split, kind in kinds.items():
        unlabelled = [row for row, value in enumerate(labels[split]) if class_name(kind, value) is None]
        if unlabelled:
            raise ValueError(
                f"Expected a label in every row of split '{split}' of '{name}', found none in {len(unlabelled)} rows: "
                f"{shortened(unlabelled)}. Drop these rows."
            )
        if isinstance(kind, ClassLabel):
            continue
        if not (isinstance(kind, Value) and (kind.dtype in ("string", "large_string", "bool") or "int" in kind.dtype)):
            raise ValueError(
                f"Expected classes (names or integers) as labels of '{name}', found {kind} in split '{split}'. "
                "Convert them."
            )
        others.update(labels[split])
    if len({isinstance(value, str) for value in others}) > 1:
        others = set(map(str, others))
    found = {split: {class_name(kind, value) for value in set(labels[split])} for split, kind in kinds.items()}
    declared = declared_names(kinds, name)
    of_train = set(kinds["train"].names) if isinstance(kinds["train"], ClassLabel) else set()
    check_classes_of_train({**found, "train": found["train"] | of_train}, name)
    return list(dict.fromkeys([*declared, *map(str, sorted(others))]))


def declared_names(kinds: Mapping[str, Any], name: str) -> list[str]:
    """Names of the classes that the `ClassLabel`s among the types of a label column declare, each once, train's first.

    Args:
        kinds: type of the label column per split.
        name: shown in errors.

    Raises:
        ValueError: a split declares no class of train.

    Example:
        >>> kinds = {"test": ClassLabel(names=["b", "d"]), "train": ClassLabel(names=["a", "b", "c"])}
        >>> declared_names(kinds, "pets")
        ['a', 'b', 'c', 'd']
    """
    names = {split: kind.names for split, kind in kinds.items() if isinstance(kind, ClassLabel)}
    if "train" in names:
        check_classes_of_train(names, name)
    ordered = sorted(names, key=lambda split: split != "train")
    return list(dict.fromkeys(known for split in ordered for known in names[split]))


def check_classes_of_train(classes: Mapping[str, Collection[str]], name: str) -> None:
    """Raises ValueError if a split has classes, but none of those of train."""
    for split, found in classes.items():
        if found and not set(found) & set(classes["train"]):
            raise ValueError(
                f"Expected classes of train, {shortened(sorted(classes['train']))}, in split '{split}' of '{name}', "
                f"found none of them but {shortened(sorted(found))}. Give all splits the same class names."
            )
