from __future__ import annotations

import pytest
from datasets import Dataset, DatasetDict, IterableDatasetDict

from hf_bml.data import data_report, load_multimodal_dataset
from hf_bml.data.data_report import add_to_report, data_line, note_held_out
from hf_bml.data.from_columns import from_columns


def pets(rows=20):
    columns = {"text": [f"pet {row}" for row in range(rows)], "owner": [str(row // 2) for row in range(rows)]}
    return Dataset.from_dict({**columns, "kind": ["cat", "dog"] * (rows // 2)})


def test_a_line_says_rows_classes_and_what_was_held_out():
    expected = "train 1030, validation 256, test 511 rows; 10 classes; validation and test held out, grouped by form"
    digits = load_multimodal_dataset("digits")
    assert data_line("digits", digits, 10) == f"digits: {expected}"
    assert data_line("digits", digits.map(lambda row: row), 10).endswith("grouped by form")


@pytest.mark.parametrize(
    ("splits", "options", "how"),
    [
        (["train"], {"group": "owner"}, "validation and test held out of train, grouped by owner"),
        (["train", "test"], {}, "validation held out of train, row by row"),
        (["train", "validation", "test"], {"group": "owner"}, "splits as the source gives them"),
    ],
)
def test_columns_say_how_they_were_split(splits, options, how):
    dataset = from_columns({split: pets() for split in splits}, {"text": "text"}, label="kind", **options)
    assert data_line("pets", dataset, 2).endswith(f"; 2 classes; {how}")


def test_streams_are_not_counted_and_other_data_says_nothing():
    own = DatasetDict({"train": pets(4), "test": pets(2)})
    assert data_line("own", own, 2) == "own: train 4, test 2 rows; 2 classes; splits as the data set gives them"
    streams = IterableDatasetDict({split: rows.to_iterable_dataset() for split, rows in own.items()})
    assert data_line("own", streams, 2).startswith("own: train, test streamed, rows not counted; 2 classes; ")


def test_what_was_held_out_is_no_sample_left_out():
    own = note_held_out(DatasetDict({"train": pets(4)}), "grouped by owner")
    assert data_report(own) == {}
    add_to_report(own["train"], "own", "train", "missing files", ["a"])
    assert data_report(own) == {"train": {"missing files": ["a"]}}
    assert data_line("own", own, 2).endswith("grouped by owner")
