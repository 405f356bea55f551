from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hf_bml.data import load_multimodal_dataset
from hf_bml.data.catalogue.swell import FILE, SIZES, heart_rates, load

RELEASED = {"train": "train", "validation": "valid", "test": "test"}


def test_the_released_file(require_data_file):
    frame = pd.read_parquet(require_data_file(FILE))
    dataset = load_multimodal_dataset("swell")
    assert dataset.num_rows == {"train": 1774, "validation": 367, "test": 998}
    persons = [set(rows["group"]) for rows in dataset.values()]
    assert [len(group) for group in persons] == [14, 3, 8] and len(set.union(*persons)) == 25
    assert dataset["train"].features["labels"].names == ["neutral", "time pressure", "interruptions", "relax"]
    for split, rows in dataset.items():
        expected = frame[frame["split"] == RELEASED[split]]
        assert rows["labels"][:] == expected["label"].tolist()
        for name, size in SIZES.items():
            values = rows[name][:]
            present = expected[f"has_{name}"].to_numpy()
            np.testing.assert_array_equal([value is not None for value in values], present)
            found = np.float32([value for value in values if value is not None])
            np.testing.assert_array_equal(found, np.stack(expected[name][present]))
            assert found.shape == (present.sum(), size)


def test_three_classes_and_a_modality_that_is_often_missing(require_data_file):
    frame = pd.read_parquet(require_data_file(FILE), columns=["split", "label", "has_physiology"])
    work = load(num_classes=3)
    assert work.num_rows == {"train": 1521, "validation": 313, "test": 854}
    assert work["test"].features["labels"].names == ["neutral", "time pressure", "interruptions"]
    assert max(work["test"]["labels"]) == 2
    alone = load(modalities=["physiology"])
    for split, rows in alone.items():
        expected = frame[(frame["split"] == RELEASED[split]) & frame["has_physiology"]]
        assert rows["labels"][:] == expected["label"].tolist() and None not in rows["physiology"][:]


def small_file(folder, flags):
    rows = len(flags)
    columns = {"physiology": [[60.0, 0.1, 80.0]] * rows, "has_physiology": flags}
    labels = {"label": [0, 1, 2, 3, 0][:rows], "label_name": ["a", "b", "c", "d", "a"][:rows]}
    others = {"group": list(range(rows)), "split": ["train", "train", "valid", "test", "test"][:rows]}
    (folder / "swell").mkdir(exist_ok=True)
    pq.write_table(pa.table({**columns, **labels, **others}), folder / FILE)


def test_a_flag_must_be_true_or_false_in_every_row(tmp_path):
    small_file(tmp_path, [True, False, True, True, False])
    assert load(["physiology"], data_dir=tmp_path).num_rows == {"train": 1, "validation": 1, "test": 1}
    for flags in ([True, None, True, True, True], [1, 0, 1, 1, 1]):
        small_file(tmp_path, flags)
        with pytest.raises(ValueError, match=r"true or false in every row of .*'has_physiology', found the type"):
            load(["physiology"], data_dir=tmp_path)


@pytest.mark.parametrize("num_classes", [2, True, "4"])
def test_unknown_number_of_classes(num_classes):
    with pytest.raises(ValueError, match=f"num_classes 3 or 4, found {num_classes!r}"):
        load(num_classes=num_classes)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="swell"):
        load(data_dir=tmp_path)


def test_heart_rate_as_the_target(require_data_file):
    frame = pd.read_parquet(require_data_file(FILE), columns=["split", "physiology", "has_physiology"])
    dataset = load(target="heart_rate")
    assert list(dataset["train"].features) == ["computer", "facial", "posture", "labels", "group"]
    assert dataset.num_rows == {"train": 776, "validation": 129, "test": 585}
    variability = frame["physiology"].str[1]
    measured = frame[frame["has_physiology"] & (variability != variability.mode()[0])]
    for split, rows in dataset.items():
        expected = measured[measured["split"] == RELEASED[split]]["physiology"].str[0]
        assert rows["labels"][:] == pytest.approx(expected.tolist())
    with pytest.raises(ValueError, match=r"modalities out of .*'computer', 'facial', 'posture'.*'physiology'"):
        load(["physiology"], target="heart_rate")
    with pytest.raises(ValueError, match="target must be"):
        load(target="skin")


def test_filled_in_heart_rates_are_missing():
    physiology = np.array(
        [[71.0, 0.04, 1.0], [71.0, 0.05, 2.0], [80.0, 0.06, 3.0], [71.0, 0.04, 4.0], [90.0, 0.1, 5.0]]
    )
    values, kind = heart_rates(physiology, np.array([True, True, True, True, False]))
    assert values.to_pylist() == [None, 71.0, 80.0, None, None] and kind.dtype == "float32"
