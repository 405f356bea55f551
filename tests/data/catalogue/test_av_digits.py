from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
import soundfile
from datasets import Audio, ClassLabel, Image

from hf_bml.data import load_multimodal_dataset
from hf_bml.data.catalogue.av_digits import FILE, load, official_splits


@pytest.fixture
def frame(require_data_file):
    """The file read by pandas."""
    return pd.read_parquet(require_data_file(FILE))


def rows_of(split, frame):
    """Rows of the file that hold the recordings of a split, in its order."""
    position = {audio["bytes"]: row for row, audio in enumerate(frame["audio"])}
    assert len(position) == len(frame)
    return frame.iloc[[position[audio["bytes"]] for audio in split["audio"]]]


def test_speaker_split(frame):
    dataset = load_multimodal_dataset("av_digits")
    assert {split: set(rows_of(rows, frame)["speaker"]) for split, rows in dataset.items()} == {
        "train": {"george", "jackson", "lucas", "nicolas"},
        "validation": {"theo"},
        "test": {"yweweler"},
    }
    assert all(rows["group"][:] == rows_of(rows, frame)["speaker"].tolist() for rows in dataset.values())
    for split, per_class in (("train", 200), ("validation", 50), ("test", 50)):
        np.testing.assert_array_equal(np.bincount(dataset[split]["labels"]), np.full(10, per_class))


def test_official_split_by_recording(frame):
    dataset = load_multimodal_dataset("av_digits", split="official")
    recordings = {split: set(rows_of(rows, frame)["recording"]) for split, rows in dataset.items()}
    assert recordings == {"test": set(range(5)), "validation": set(range(5, 10)), "train": set(range(10, 50))}
    for split, per_class in (("train", 240), ("validation", 30), ("test", 30)):
        np.testing.assert_array_equal(np.bincount(dataset[split]["labels"]), np.full(10, per_class))


@pytest.mark.parametrize("split", ["speaker", "official"])
def test_rows_keep_their_label_and_image_and_occur_once(frame, split):
    dataset = load(split=split)
    rows = pd.concat([rows_of(rows, frame) for rows in dataset.values()])
    assert len(rows) == rows.index.nunique() == rows["mnist_index"].nunique() == 3000
    for part in dataset.values():
        expected = rows_of(part, frame)
        assert part["labels"][:] == expected["label"].tolist()
        stored = part.cast_column("visual", Image(decode=False))["visual"][:]
        assert [image["bytes"] for image in stored] == [image["bytes"] for image in expected["image"]]


def test_columns_and_decoding(require_data_file):
    require_data_file(FILE)
    train = load()["train"]
    assert train.column_names == ["audio", "visual", "labels", "group"]
    assert train.features["audio"] == Audio(sampling_rate=8000, decode=False)
    assert train.features["labels"] == ClassLabel(names=list("0123456789"))
    samples, rate = soundfile.read(io.BytesIO(train[0]["audio"]["bytes"]))
    assert rate == 8000 and samples.ndim == 1 and 0.1 < len(samples) / rate < 2.5
    assert train[0]["visual"].size == (28, 28) and train[0]["visual"].mode == "L"


def test_official_splits_by_hand():
    released = np.array(["test", "train", "train", "train", "train"])
    splits = official_splits(released, np.array([4, 5, 9, 10, 49]))
    assert splits.tolist() == ["test", "validation", "validation", "train", "train"]


def test_unknown_split():
    with pytest.raises(ValueError, match=r"\['speaker', 'official'\], found 'random'"):
        load(split="random")


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="avdigits"):
        load(data_dir=tmp_path)
