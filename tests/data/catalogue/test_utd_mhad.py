from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from hf_bml.data import load_multimodal_dataset
from hf_bml.data.catalogue.utd_mhad import FILE, load, raw_sequences, relative_to_hip

PERSONS = {"train": {"1", "3", "5"}, "validation": {"7"}, "test": {"2", "4", "6", "8"}}


def test_the_released_file(require_data_file):
    frame = pd.read_parquet(require_data_file(FILE))
    dataset = load_multimodal_dataset("utd_mhad")
    assert dataset.num_rows == {"train": 323, "validation": 108, "test": 430}
    assert {split: set(rows["group"]) for split, rows in dataset.items()} == PERSONS
    for split, released in (("train", "train"), ("validation", "valid"), ("test", "test")):
        expected = frame[frame["split"] == released]
        rows = dataset[split]
        assert rows["labels"][:] == expected["label"].tolist()
        np.testing.assert_array_equal(
            np.array(rows["inertial"][:], np.float32).reshape(len(rows), -1), np.stack(expected["inertial"])
        )
        joints = np.stack(expected["skeleton"]).astype(np.float64).reshape(-1, 32, 20, 3)
        found = np.array(rows["skeleton"][:]).reshape(joints.shape)
        np.testing.assert_allclose(found, joints - joints[:, :, [3]], atol=1e-6)
        assert not found[:, :, 3].any()
    train = dataset["train"]
    assert train.features["labels"].names[:2] == ["swipe left", "swipe right"] and len(set(train["labels"])) == 27
    picture = Image.open(io.BytesIO(train[0]["depth"][7]["bytes"]))
    assert picture.size == (48, 48) and picture.mode == "L"


def test_raw_samples_have_their_own_lengths(require_data_file):
    frame = pd.read_parquet(require_data_file(FILE), columns=["split", "inertial_raw", "n_inertial"])
    rows = load(modalities=["inertial"], inertial="raw")["validation"]
    assert rows.column_names == ["inertial", "labels", "group"]
    expected = frame[frame["split"] == "valid"]
    assert [len(row) for row in rows["inertial"]] == expected["n_inertial"].tolist()
    np.testing.assert_array_equal(np.float32(rows[5]["inertial"]).ravel(), expected["inertial_raw"].iloc[5])


def test_relative_to_hip_by_hand():
    joints = np.arange(15.0).reshape(1, 5, 3)
    assert relative_to_hip(joints)[0].tolist() == [[-9] * 3, [-6] * 3, [-3] * 3, [0] * 3, [3] * 3]


def test_raw_sequences_of_a_slice_and_bad_ones():
    column = pa.chunked_array([pa.array([[0.0] * 6, list(range(12)), [1.0] * 6], pa.list_(pa.float32()))])
    assert raw_sequences(column.slice(1), "f").to_pylist() == [[[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]], [[1] * 6]]
    for rows, message in (
        ([[0.0] * 6, [0.0] * 7], "'f', column 'inertial_raw', found 7 values in row 1"),
        ([[]], "found 0 values in row 0"),
        ([[float("nan")] * 6], "not finite"),
    ):
        with pytest.raises(ValueError, match=message):
            raw_sequences(pa.chunked_array([pa.array(rows, pa.list_(pa.float32()))]), "f")


def test_unknown_options_and_another_file(tmp_path):
    with pytest.raises(ValueError, match=r"inertial must be one of \['resampled', 'raw'\], found 'all'"):
        load(inertial="all")
    with pytest.raises(ValueError, match=r"out of \('inertial', 'skeleton', 'depth'\), found \['audio'\]"):
        load(modalities=["audio"])
    with pytest.raises(FileNotFoundError, match="utd_mhad"):
        load(data_dir=tmp_path)
    (tmp_path / "utd_mhad").mkdir()
    pq.write_table(pa.table({"label": [0]}), tmp_path / FILE)
    with pytest.raises(ValueError, match=r"Expected the columns \['depth', 'label_name'"):
        load(modalities=["depth"], data_dir=tmp_path)
