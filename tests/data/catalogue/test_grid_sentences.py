from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hf_bml.data import load_multimodal_dataset
from hf_bml.data.catalogue.grid_sentences import FILES, WORDS, load

NAMES = [word for words in WORDS.values() for word in words]


def test_the_released_files(require_data_file):
    tables = [pq.read_table(require_data_file(file), columns=["sentence", "split"]) for file in FILES]
    dataset = load_multimodal_dataset("grid_sentences")
    assert dataset.num_rows == {"train": 700, "validation": 100, "test": 200}
    assert dataset["train"].features["labels"].feature.names == NAMES
    sentences = [row["sentence"] for table in tables for row in table.to_pylist() if row["split"] == "train"]
    found = [[NAMES[number] for number in labels] for labels in dataset["train"]["labels"][:]]
    for sentence, words in zip(sentences, found, strict=True):
        command, _, preposition, _, _, adverb = sentence.split()
        assert words == [command, preposition, adverb]
    row = dataset["test"][0]
    assert row["audio"]["bytes"] == row["visual"]["bytes"] and len(row["audio"]["bytes"]) > 1000


def test_an_unknown_word(tmp_path):
    (tmp_path / "grid").mkdir()
    video = [{"bytes": b"", "path": "a.mp4"}]
    words = {"command": ["bin"], "preposition": ["under"], "adverb": ["now"]}
    for file in FILES:
        pq.write_table(pa.table({"video": video, "split": ["train"], **words}), tmp_path / file)
    with pytest.raises(ValueError, match=r"found \['under'\] in row 0"):
        load(tmp_path)
