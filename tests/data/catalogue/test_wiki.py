from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from hf_bml.data import load_multimodal_dataset
from hf_bml.data.catalogue.wiki import FILE, load


def test_the_released_file(require_data_file):
    frame = pd.read_parquet(require_data_file(FILE))
    dataset = load_multimodal_dataset("wiki")
    assert dataset.num_rows == {"train": 2011, "validation": 285, "test": 570}
    groups = [set(rows["group"]) for rows in dataset.values()]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 2856
    assert dataset["train"].features["labels"].names == [f"category_{number}" for number in range(10)]
    for split, released in (("train", "train"), ("validation", "valid"), ("test", "test")):
        expected = frame[frame["split"] == released]
        assert dataset[split]["labels"][:] == expected["label"].tolist()
        for name, size in (("image", 128), ("text", 10)):
            found = np.float32(dataset[split][name][:])
            assert found.shape == (len(expected), size)
            np.testing.assert_array_equal(found, np.stack(expected[name]))


def test_chosen_modalities(require_data_file):
    require_data_file(FILE)
    assert load(modalities=["text"])["test"].column_names == ["text", "labels", "group"]


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="wiki"):
        load(data_dir=tmp_path)
