from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
import soundfile
from datasets import Audio, ClassLabel, Image, List

from hf_bml.data import load_multimodal_dataset
from hf_bml.data.catalogue.av_letters import FILE, load

LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1) if chr(code) != "w"]


@pytest.fixture
def letters(require_data_file):
    """Letter words of the file read by pandas."""
    frame = pd.read_parquet(require_data_file(FILE))
    return frame[frame["task"] == "letter"]


@pytest.mark.parametrize(
    ("split", "released", "rows", "classes"),
    [("train", "train", 700, 25), ("validation", "valid", 100, 24), ("test", "test", 200, 25)],
)
def test_splits_are_those_of_the_file(letters, split, released, rows, classes):
    part = load_multimodal_dataset("av_letters")[split]
    expected = letters[letters["split"] == released]
    assert len(part) == rows and len(set(part["labels"])) == classes
    assert [audio["bytes"] for audio in part["audio"]] == [audio["bytes"] for audio in expected["audio"]]
    assert [part.features["labels"].int2str(label) for label in part["labels"]] == expected["text"].tolist()
    frames = part.cast_column("visual", List(Image(decode=False)))[0]["visual"]
    assert [frame["bytes"] for frame in frames] == [frame["bytes"] for frame in expected["frames"].iloc[0]]


def test_no_clip_in_two_splits(letters):
    clips = [audio["bytes"] for part in load().values() for audio in part["audio"]]
    assert len(clips) == len(set(clips)) == len(letters) == 1000


def test_columns_and_decoding(letters):
    train = load()["train"]
    assert train.column_names == ["audio", "visual", "labels"]
    assert train.features["audio"] == Audio(sampling_rate=16000, decode=False)
    assert train.features["visual"] == List(Image())
    assert train.features["labels"] == ClassLabel(names=LETTERS)
    samples, rate = soundfile.read(io.BytesIO(train[0]["audio"]["bytes"]))
    assert rate == 16000 and 0.15 < len(samples) / rate < 0.6
    assert np.stack([np.asarray(frame) for frame in train[0]["visual"]]).shape == (6, 48, 72, 3)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="grid_s1_letter_words"):
        load(data_dir=tmp_path)
