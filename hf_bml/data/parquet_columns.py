"""Parquet files with a row per sample: checked columns (vectors of numbers, class names, groups), and data sets."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import ClassLabel, DatasetDict, Features, List, Value

from .data_report import note_held_out
from .location import find_data_file
from .splits import RELEASED_SPLITS, cut_table
from .validation import GROUP, LABELS

Column = tuple[pa.Array | pa.ChunkedArray, Any]  # values, and their type


def released_dataset(
    file: str,
    data_dir: str | os.PathLike | None,
    columns: Sequence[str],
    modality_columns: Callable[[pa.Table, Path], Mapping[str, Column]],
    how: str,
    num_classes: int | None = None,
) -> DatasetDict:
    """The data set of a file that also has the columns label, label_name, group and split.

    Args:
        file: below the data folder.
        data_dir: see `find_data_file`.
        columns: others that are read.
        modality_columns: from these to the modalities, in order, and to `labels` in the place of the file's. Rows
            without any modality, or without a label, are left out.
        how: see `note_held_out`.
        num_classes: rows of further classes are left out; None for none.

    Returns:
        splits train, validation and test with one column per modality, `labels` and `group`.

    Raises:
        ValueError: the file's content is not as expected.
        FileNotFoundError: the file is missing.
    """
    path = find_data_file(file, data_dir)
    table = read_columns(path, [*columns, "label", "label_name", "group", "split"])
    found = dict(modality_columns(table, path))
    names = class_label(table, path).names[:num_classes]
    labels = found.pop(LABELS, (table["label"], ClassLabel(names=names)))
    is_present = np.any([np.asarray(pc.is_valid(values)) for values, _ in found.values()], axis=0)
    is_present &= np.asarray(pc.is_valid(labels[0]))
    found[LABELS] = labels
    found[GROUP] = group_column(table, "group", path), Value("string")
    kept = is_present & (table["label"].to_numpy() < len(names))
    row_splits = [split if keep else None for split, keep in zip(released_splits(table, path), kept, strict=True)]
    table = pa.table({name: values for name, (values, _) in found.items()})
    features = Features({name: kind for name, (_, kind) in found.items()})
    return note_held_out(cut_table(table, row_splits, features), how)


def chosen_modalities(modalities: Sequence[str], known: Sequence[str]) -> list[str]:
    """The modalities, in their order; ValueError unless each is one of `known` and given once."""
    if isinstance(modalities, str) or not modalities or not set(modalities) <= set(known):
        raise ValueError(
            f"Expected a list of modalities out of {tuple(known)}, found {modalities!r}. Pass e.g. ['{known[0]}']."
        )
    if len(set(modalities)) < len(modalities):
        raise ValueError(f"Expected every modality once, found {modalities!r}. Drop the repetition.")
    return list(modalities)


def read_columns(path: Path, columns: Sequence[str]) -> pa.Table:
    """Some columns of a file; ValueError, naming them, if it lacks any."""
    found = pq.read_schema(path).names
    if missing := [name for name in columns if name not in found]:
        raise ValueError(
            f"Expected the columns {missing} in '{path}', found {found}. Use the file as it was released."
        )
    return pq.read_table(path, columns=list(columns))


def vectors(table: pa.Table, column: str, path: Path, size: int | None = None) -> np.ndarray:
    """Lists of numbers of one length.

    Args:
        table: holds `column`, a list of numbers in every row.
        column: name of the column.
        path: the table's file, shown in errors.
        size: expected length of the lists; None takes that of the first row.

    Returns:
        shape (rows, size), float64.

    Raises:
        ValueError: a list is missing or of another length, or a value is missing, NaN or infinite.
    """
    lists = table[column].combine_chunks()
    lengths = pc.fill_null(pc.list_value_length(lists), -1).to_numpy()
    size = int(lengths[0]) if size is None else size
    if len(wrong := np.flatnonzero(lengths != size)):
        raise ValueError(
            f"Expected {size} values in '{path}', column '{column}', found {max(lengths[wrong[0]], 0)} in row "
            f"{wrong[0]} ({len(wrong)} such rows). Repair or drop these rows."
        )
    values = lists.flatten().to_numpy(zero_copy_only=False).astype(np.float64).reshape(-1, size)
    bad_rows = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad_rows):
        dimension = np.flatnonzero(~np.isfinite(values[bad_rows[0]]))[0]
        raise ValueError(
            f"Expected finite features, found {values[bad_rows[0], dimension]} in file '{path}', column '{column}', "
            f"row {bad_rows[0]}, dimension {dimension} ({len(bad_rows)} such rows). Repair or drop these rows."
        )
    return values


def fixed_lists(values: np.ndarray, present: np.ndarray | None = None) -> Column:
    """Equally long vectors, or sequences of them, as a column.

    Args:
        values: shape (rows, dim) or (rows, time, dim).
        present: rows that have a value, bool, shape (rows,); the others become None. None: all have one.

    Returns:
        float32 lists and their type.
    """
    array: pa.Array = pa.array(values.astype(np.float32).ravel())
    kind: Value | List = Value("float32")
    for length in reversed(values.shape[2:]):
        array, kind = pa.FixedSizeListArray.from_arrays(array, length), List(kind, length=length)
    mask = None if present is None else pa.array(~present)
    length = values.shape[1]
    return pa.FixedSizeListArray.from_arrays(array, length, mask=mask), List(kind, length=length)


def class_label(table: pa.Table, path: Path) -> ClassLabel:
    """The type of `label`, with the names of `label_name`.

    Raises:
        ValueError: a label is missing, the labels are not 0, 1, ..., or one has several names.
    """
    pairs = sorted(set(zip(table["label"].to_pylist(), table["label_name"].to_pylist(), strict=True)), key=str)
    names = dict(pairs)
    if len(pairs) != len(names) or None in names or sorted(names) != list(range(len(names))):
        raise ValueError(f"Expected labels 0, 1, ... with one name each in '{path}', found {pairs}.")
    return ClassLabel(names=[names[label] for label in sorted(names)])


def group_column(table: pa.Table, column: str, path: Path) -> pa.ChunkedArray:
    """A column as the groups of the rows (see `hf_bml.data.validation.GROUP`); ValueError if a row has none."""
    if table[column].null_count:
        raise ValueError(
            f"Expected a group in every row of '{path}', column '{column}', found {table[column].null_count} without."
        )
    return table[column].cast(pa.string())


def released_splits(table: pa.Table, path: Path, column: str = "split") -> list[str]:
    """The released split of every row, by the names of this package; ValueError for another one."""
    released = table[column].to_pylist()
    if unknown := set(released) - set(RELEASED_SPLITS):
        raise ValueError(
            f"Expected the splits {list(RELEASED_SPLITS)} in '{path}', column '{column}', found "
            f"{sorted(map(str, unknown))}."
        )
    return [RELEASED_SPLITS[name] for name in released]
