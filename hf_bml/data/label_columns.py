"""Label columns as labels: one class a row, several of them, or numbers to predict."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import ClassLabel, Dataset, LargeList, List, Value

from .columns import check_classes_of_train, class_name, class_names, column_values, declared_names, field_of
from .data_report import shortened

Label = str | Sequence[str]  # a column, or several
Kind = Any  # the type of a label column; of several columns a tuple of theirs
LISTS = (List, LargeList, tuple)


@dataclass(frozen=True)
class LabelReader:
    """From what a row has in its label column to its label.

    Attributes:
        feature: of the labels: a `ClassLabel`; a list of one for several classes; float32, or a list of them.
        read: of a split and a value; None for a missing label, and of one class for one that `classes` lacks. Raises
            ValueError for what is no label.
        names_in: of the same, the names of the classes that a row has, others included; none of numbers.
        expected: a label in words, for errors.
    """

    feature: Any
    read: Callable[[str, Any], Any]
    names_in: Callable[[str, Any], list[str] | None]
    expected: str


def label_columns(label: Label) -> list[str]:
    """The columns that hold the label. Raises ValueError unless they are names, or one."""
    if not isinstance(label, str) and not (isinstance(label, list | tuple) and label):
        raise ValueError(f"Expected the column of the label, or a list of columns, found {label!r}. Correct label.")
    return [label] if isinstance(label, str) else list(label)


def label_of(row: Mapping[str, Any], label: Label) -> Any:
    """What a row has in its label column, or the features there; of several columns a tuple."""
    return field_of(row, label) if isinstance(label, str) else tuple(field_of(row, column) for column in label)


def label_values(rows: Dataset, label: Label) -> list[Any]:
    """`label_of` every row."""
    if isinstance(label, str):
        return column_values(rows, label)
    return list(zip(*(column_values(rows, column) for column in label), strict=True))


def are_numbers(kinds: Mapping[str, Kind], numbers: bool, classes: Sequence[str] | None, name: str) -> bool:
    """Whether labels are numbers to predict: floats without `classes`, or any if `numbers` asks for them.

    Raises:
        ValueError: `numbers` asks for them, and there are none, or `classes` too.
    """
    numeric = {split: _is_numeric(kind) for split, kind in kinds.items()}
    if not numbers:
        floats = [isinstance(kind, Value) and "float" in kind.dtype for kind in kinds.values()]
        single = all(isinstance(kind, Value) for kind in kinds.values())
        return not classes and single and any(floats) and all(numeric.values())
    if not all(numeric.values()) or classes:
        found = f"classes={list(classes)}" if classes else list(kinds.values())
        raise ValueError(
            f"Expected numbers as labels of '{name}', found {found}. Convert them, or leave out "
            f"{'one of the two' if classes else 'numbers: true'}."
        )
    return True


def _is_numeric(kind: Kind) -> bool:
    if isinstance(kind, tuple):
        return all(isinstance(part, Value) and _is_numeric(part) for part in kind)
    kind = kind.feature if isinstance(kind, LISTS) else kind
    return isinstance(kind, Value) and ("float" in kind.dtype or "int" in kind.dtype or kind.dtype == "bool")


def label_reader(
    kinds: Mapping[str, Kind],
    label: Label,
    classes: Sequence[str] | None,
    numbers: bool,
    values: Mapping[str, Sequence[Any]] | None,
    name: str,
) -> LabelReader:
    """How labels are read, from the types of the label column.

    Args:
        kinds: type of the label column per split.
        label: its name, or those of several.
        classes: class names in the order of their indices, if they are given.
        numbers: whether integers and lists are numbers too.
        values: of the label column per split; None of a stream, whose classes must be declared.
        name: shown in errors.

    Raises:
        ValueError: labels are missing, of no or of differing kinds, or their classes are not known.
    """
    if are_numbers(kinds, numbers, classes, name):
        return _number_reader(kinds, values, name)
    is_list = {split: isinstance(kind, LISTS) for split, kind in kinds.items()}
    if any(is_list.values()):
        if not all(is_list.values()):
            raise ValueError(
                f"Expected several classes a row in every split of '{name}', found {dict(kinds)}. Convert them."
            )
        return _several_reader(kinds, label, classes, values, name)
    found = declared_names(kinds, name) if values is None else class_names(kinds, values, name)
    names = list(classes or found)
    if not names:
        raise ValueError(
            f"Expected the classes of '{name}' for streaming, found the type {kinds['train']}. Pass classes=[...]."
        )
    if values is not None and not set(names) & set(found):
        raise ValueError(f"Expected the classes {names} in '{name}', found {found}. Correct classes.")
    index = {known: number for number, known in enumerate(names)}

    def names_in(split: str, value: Any) -> list[str]:
        known = class_name(kinds[split], value)
        return [] if known is None else [known]

    return LabelReader(
        ClassLabel(names=names),
        lambda split, value: index.get(class_name(kinds[split], value)),
        names_in,
        f"a label of {shortened(names)}",
    )


def _number_reader(kinds: Mapping[str, Kind], values: Mapping[str, Sequence[Any]] | None, name: str) -> LabelReader:
    lengths = {split: _length(kind, values and values[split]) for split, kind in kinds.items()}
    if len(set(lengths.values())) > 1 or -1 in lengths.values():
        raise ValueError(
            f"Expected one number a row, or as many in every row, as labels of '{name}', found {dict(kinds)}. Convert "
            "them, or give their columns as label: [a, b]."
        )
    length = lengths["train"]

    def read(split: str, value: Any) -> float | list[float] | None:
        row = [value] if length == 0 else value
        if row is None or any(number is None or not math.isfinite(number) for number in row):
            return None
        if length and len(row) != length:
            raise ValueError(f"expected {length} numbers, found {len(row)}")
        return float(value) if length == 0 else list(map(float, value))

    number = Value("float32")
    expected = "a finite number as label" if length == 0 else f"{length} finite numbers as label"
    feature = number if length == 0 else List(number, length=length)
    return LabelReader(feature, read, lambda split, value: [], expected)


def _length(kind: Kind, values: Sequence[Any] | None) -> int:
    """Numbers a row, 0 of a single one that is no list; -1 if it is not known."""
    if isinstance(kind, tuple):
        return len(kind)
    if not isinstance(kind, LISTS):
        return 0
    if isinstance(kind, List) and kind.length > 0:
        return kind.length
    return next((len(value) for value in values or () if value), -1)


def _several_reader(
    kinds: Mapping[str, Kind],
    label: Label,
    classes: Sequence[str] | None,
    values: Mapping[str, Sequence[Any]] | None,
    name: str,
) -> LabelReader:
    if _are_bits(kinds, values):
        lengths = {split: _length(kind, values and values[split]) for split, kind in kinds.items()}
        known = max(lengths.values()) if values is not None or classes is None else len(classes)
        if values is None and known < 0:  # nothing says how many there are
            raise ValueError(
                f"Expected the classes of '{name}' for streaming, found {kinds['train']}. Pass classes=[...]."
            )
        columns = label_columns(label) if isinstance(kinds["train"], tuple) else None
        of_bits = columns or classes or list(map(str, range(known)))
        if known < 1 or not {*lengths.values()} <= {len(of_bits), -1}:
            raise ValueError(
                f"Expected a 0 or 1 for each of the classes {list(of_bits)} in every row of '{name}', found "
                f"{sorted(set(lengths.values()))} a row. Name as many classes."
            )
        names = list(classes or of_bits)
        if unknown := set(names) - set(of_bits):
            raise ValueError(f"Expected classes out of {of_bits} in '{name}', found {sorted(unknown)}. Correct them.")
    else:
        of_bits = None

    def given(split: str, value: Any) -> list[str] | None:
        if of_bits is not None:
            return _of_bits(of_bits, value)
        if value is None:
            return None
        found = [class_name(kinds[split].feature, part) for part in value]
        return None if None in found else found

    if of_bits is None:
        names = _names_of_lists(kinds, given, classes, values, name)
    index = {known: number for number, known in enumerate(names)}

    def read(split: str, value: Any) -> list[int] | None:
        found = given(split, value)
        if found is None:
            return None
        if values is None and not classes and (unknown := set(found) - set(index)):
            raise ValueError(f"expected labels of {shortened(names)}, found {sorted(unknown)}; pass classes")
        return sorted({index[each] for each in found if each in index})

    return LabelReader(List(ClassLabel(names=names)), read, given, f"labels out of {shortened(names)}")


def _are_bits(kinds: Mapping[str, Kind], values: Mapping[str, Sequence[Any]] | None) -> bool:
    """Whether several classes a row are told by a 0 or 1 for each: columns, floats, booleans; integers too if all rows
    have equally many, two or more, and there are no others."""
    parts = [kind if isinstance(kind, tuple) else kind.feature for kind in kinds.values()]
    if all(isinstance(part, tuple) or (isinstance(part, Value) and "float" in part.dtype) for part in parts):
        return True
    if not all(isinstance(part, Value) and ("int" in part.dtype or part.dtype == "bool") for part in parts):
        return False
    if values is None or any(part.dtype == "bool" for part in parts):
        return all(part.dtype == "bool" for part in parts)
    rows = [row for own in values.values() for row in own if row is not None]
    lengths = {len(row) for row in rows}
    return len(lengths) == 1 and max(lengths) > 1 and {number for row in rows for number in row} <= {0, 1}


def _of_bits(names: Sequence[str], value: Sequence[Any] | None) -> list[str] | None:
    """The names whose bit is 1; None for a missing bit."""
    if value is None or any(bit is None or bit != bit for bit in value):
        return None
    if len(value) != len(names) or any(isinstance(bit, str) or bit not in (0, 1) for bit in value):
        raise ValueError(
            f"expected a 0 or 1 for each of {shortened(names)}, found {shortened(list(value))}; numbers to predict "
            "need numbers: true"
        )
    return [known for known, bit in zip(names, value, strict=True) if bit]


def _names_of_lists(
    kinds: Mapping[str, Kind],
    given: Callable[[str, Any], list[str] | None],
    classes: Sequence[str] | None,
    values: Mapping[str, Sequence[Any]] | None,
    name: str,
) -> list[str]:
    """Class names of lists: the declared ones, then the others, sorted, numbers by value; or `classes`.

    Raises:
        ValueError: lists of something else; a split has none of train's classes, or none is in `classes`; of a stream,
            none are declared.
    """
    parts = {split: kind.feature for split, kind in kinds.items()}
    for split, part in parts.items():
        of_text = isinstance(part, Value) and (part.dtype in ("string", "large_string") or "int" in part.dtype)
        if not of_text and not isinstance(part, ClassLabel):
            raise ValueError(
                "Expected lists of classes (names or integers), or of a 0 or 1 for each, as labels of "
                f"'{name}', found {kinds[split]} in split '{split}'. Convert them."
            )
    declared = declared_names(parts, name)
    if values is None:
        if not classes and not declared:
            raise ValueError(
                f"Expected the classes of '{name}' for streaming, found {kinds['train']}. Pass classes=[...]."
            )
        return list(classes or declared)
    found = {split: {each for value in own for each in given(split, value) or ()} for split, own in values.items()}
    train = parts["train"].names if isinstance(parts["train"], ClassLabel) else ()
    check_classes_of_train({**found, "train": found["train"] | set(train)}, name)
    are_integers = all(isinstance(part, Value) and "int" in part.dtype for part in parts.values())
    others = sorted(set().union(*found.values()), key=int if are_integers else None)
    names = list(dict.fromkeys([*declared, *others]))
    if not set(classes or names) & set(names):
        raise ValueError(f"Expected the classes {classes or 'of labels'} in '{name}', found {names}. Correct classes.")
    return list(classes or names)


def read_labels(reader: LabelReader, split: str, values: Sequence[Any], name: str) -> list[Any]:
    """Labels of all rows of a split; see `LabelReader.read`.

    Raises:
        ValueError: naming the row, for what is no label; or the rows, of numbers or several classes, that have none.
    """
    labels = []
    for row, value in enumerate(values):
        try:
            labels.append(reader.read(split, value))
        except ValueError as error:
            raise ValueError(f"Split '{split}' of '{name}', row {row}: {error}.") from error
    missing = [row for row, label in enumerate(labels) if label is None]
    if missing and not isinstance(reader.feature, ClassLabel):
        raise ValueError(
            f"Expected {reader.expected} in every row of split '{split}' of '{name}', found none in {len(missing)} "
            f"rows: {shortened(missing)}. Drop these rows."
        )
    return labels


def other_classes(reader: LabelReader, split: str, values: Sequence[Any]) -> list[str]:
    """Names in the label column that are not among the reader's classes."""
    if isinstance(reader.feature, ClassLabel):
        names = reader.feature.names
    else:
        part = reader.feature.feature if isinstance(reader.feature, List) else None
        names = part.names if isinstance(part, ClassLabel) else []
    return sorted({name for value in values for name in reader.names_in(split, value)} - set(names))
