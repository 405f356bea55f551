from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Features, List, Value

from hf_bml.data.parquet_columns import (
    chosen_modalities,
    class_label,
    fixed_lists,
    group_column,
    read_columns,
    released_splits,
    vectors,
)

FILE = Path("set.parquet")
LISTS = pa.table({"sound": pa.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], pa.list_(pa.float32()))})


def test_vectors_of_the_whole_table_and_of_a_part():
    assert vectors(LISTS, "sound", FILE).tolist() == [[1, 2], [3, 4], [5, 6]]
    assert vectors(LISTS.slice(1), "sound", FILE, 2).tolist() == [[3, 4], [5, 6]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1.0, 2.0], None], r"Expected 2 values in 'set\.parquet', column 'sound', found 0 in row 1 \(1 such"),
        ([[1.0, 2.0], [1.0], [1.0]], r"Expected 2 values .* found 1 in row 1 \(2 such"),
        ([[1.0, 2.0], [1.0, None]], r"finite .*set\.parquet', column 'sound', row 1, dimension 1"),
        ([[float("inf"), 2.0]], r"found inf .*row 0, dimension 0"),
    ],
)
def test_bad_vectors(rows, message):
    with pytest.raises(ValueError, match=message):
        vectors(pa.table({"sound": pa.array(rows, pa.list_(pa.float32()))}), "sound", FILE, 2)


def test_fixed_lists_with_rows_that_have_none():
    array, kind = fixed_lists(np.arange(12.0).reshape(2, 3, 2), np.array([False, True]))
    assert kind == List(List(Value("float32"), length=2), length=3)
    rows = Dataset(pa.table({"sound": array}).cast(Features({"sound": kind}).arrow_schema))
    assert rows["sound"][:] == [None, [[6, 7], [8, 9], [10, 11]]]


def test_columns_that_a_file_lacks_are_named(tmp_path):
    pq.write_table(LISTS, tmp_path / FILE)
    assert read_columns(tmp_path / FILE, ["sound"]).num_rows == 3
    with pytest.raises(ValueError, match=r"Expected the columns \['label'\] in .*set\.parquet', found \['sound'\]"):
        read_columns(tmp_path / FILE, ["sound", "label"])


def test_class_label():
    table = pa.table({"label": [1, 0, 1], "label_name": ["up", "down", "up"]})
    assert class_label(table, FILE).names == ["down", "up"]
    for labels, names in (([0, 2], ["a", "b"]), ([0, 1, 1], ["a", "b", "c"]), ([0, None], ["a", "b"])):
        with pytest.raises(ValueError, match=r"labels 0, 1, \.\.\. with one name each in 'set\.parquet', found"):
            class_label(pa.table({"label": labels, "label_name": names}), FILE)


def test_groups_and_splits():
    table = pa.table({"person": [1, 2, None], "split": ["train", "valid", "dev"]})
    assert group_column(table.slice(0, 2), "person", FILE).to_pylist() == ["1", "2"]
    assert released_splits(table.slice(0, 2), FILE) == ["train", "validation"]
    with pytest.raises(ValueError, match=r"'set\.parquet', column 'person', found 1 without"):
        group_column(table, "person", FILE)
    with pytest.raises(ValueError, match=r"column 'split', found \['dev'\]"):
        released_splits(table, FILE)


def test_chosen_modalities():
    assert chosen_modalities(("b", "a"), "ab") == ["b", "a"]
    for given, message in (("a", "found 'a'"), ([], r"found \[\]"), (["c"], r"\['c'\]"), (["a", "a"], "once")):
        with pytest.raises(ValueError, match=message):
            chosen_modalities(given, ("a", "b"))
