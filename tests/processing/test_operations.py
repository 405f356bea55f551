"""What `datasets` does with a processed data set: it works, or one line says what to do."""

from __future__ import annotations

import numpy
import pytest
import torch
from datasets import (
    ClassLabel,
    Dataset,
    DatasetDict,
    IterableDatasetDict,
    concatenate_datasets,
    interleave_datasets,
    load_from_disk,
)

from hf_bml import MultimodalProcessor

OWN_FORMAT = r"Expected the format that MultimodalProcessor\.apply sets, found another one"
REWRITTEN = r"modality 'audio': expected a prepared value, found list: map or flatten_indices"


def raw(rows=6):
    columns = {
        "audio": numpy.arange(rows * 3, dtype="float32").reshape(rows, 3).tolist(),
        "text": ["the cat", "the cat sat"] * (rows // 2),
        "labels": [row % 2 for row in range(rows)],
    }
    return Dataset.from_dict(columns).cast_column("labels", ClassLabel(names=["dog", "cat"]))


@pytest.fixture
def processor(tokenizer_path):
    return MultimodalProcessor(
        {"audio": {"type": "features"}, "text": {"type": "tokens", "tokenizer": tokenizer_path}}
    )


@pytest.fixture
def data(processor):
    return processor.apply(DatasetDict({"train": raw(), "test": raw()}))


def is_prepared(rows, audio=None):
    """Whether the first row holds tensors, of the raw row `audio` if that is given."""
    row = next(iter(rows))
    same = audio is None or row["audio"].tolist() == [3.0 * audio, 3.0 * audio + 1, 3.0 * audio + 2]
    return same and isinstance(row["audio"], torch.Tensor) and isinstance(row["text"]["input_ids"], torch.Tensor)


def test_to_the_disk_and_back(processor, data, tmp_path):
    data.save_to_disk(tmp_path / "data")
    loaded = load_from_disk(tmp_path / "data")
    assert loaded["train"].format == data["train"].format
    assert is_prepared(loaded["test"], 0) and is_prepared(processor.apply(loaded)["train"], 0)
    data["train"].to_parquet(tmp_path / "train.parquet")
    assert is_prepared(
        processor.apply(DatasetDict({"train": Dataset.from_parquet(str(tmp_path / "train.parquet"))}))["train"]
    )


@pytest.mark.parametrize(
    ("operation", "audio"),
    [
        (lambda rows: rows.select([4, 1]), 4),
        (lambda rows: rows.shuffle(seed=0), None),
        (lambda rows: rows.sort("labels", reverse=True), 1),
        (lambda rows: rows.train_test_split(0.5, seed=0)["test"], None),
        (lambda rows: rows.filter(lambda row: row["labels"] == 1), 1),
        (lambda rows: rows.filter(lambda row: row["labels"] == 1, num_proc=2), 1),
        (lambda rows: rows.map(lambda row: {"size": len(row["audio"])}), 0),
        (lambda rows: rows.map(lambda row: {"size": len(row["audio"])}, num_proc=2), 0),
        (lambda rows: rows.shard(3, 1, contiguous=True), 2),
        (lambda rows: rows.add_column("own", list(range(6))), 0),
        (lambda rows: rows.rename_column("labels", "label"), 0),
        (lambda rows: concatenate_datasets([rows, rows]), 0),
        (lambda rows: interleave_datasets([rows, rows.select([2])]), 0),
    ],
)
def test_rows_stay_tensors(data, operation, audio):
    assert is_prepared(operation(data["train"]), audio)


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (lambda data: data["train"].with_format("numpy"), OWN_FORMAT),
        (lambda data: data["train"].with_format("torch"), OWN_FORMAT),
        (lambda data: data["train"].with_format(None), OWN_FORMAT),
        (lambda data: data["train"].select([1]).with_format("numpy"), OWN_FORMAT),
        (lambda data: data["train"].map(lambda row: {"n": 1}).with_format("numpy"), OWN_FORMAT),
        (lambda data: data["train"].rename_column("audio", "sound"), OWN_FORMAT),
        (lambda data: data["train"].with_format(None).to_iterable_dataset(), OWN_FORMAT),
        (lambda data: concatenate_datasets(list(data.values())), OWN_FORMAT),  # one is augmented, one is not
        (lambda data: data["train"].map(lambda row: {"audio": row["audio"] * 2}), REWRITTEN),
        (lambda data: data["train"].shuffle(seed=0).flatten_indices(), REWRITTEN),
    ],
)
def test_what_would_give_bytes_is_refused(data, operation, message):
    with pytest.raises(ValueError, match=message) as error:
        next(iter(operation(data)))
    assert "\n" not in str(error.value)


def test_the_ways_that_the_messages_name(processor, data):
    joined = concatenate_datasets(list(data.values()))
    assert is_prepared(processor.apply(DatasetDict({"train": joined}))["train"], 0)
    flat = data["train"].select([3, 0]).with_format("arrow").flatten_indices()
    assert is_prepared(processor.apply(DatasetDict({"train": flat}))["train"], 3)
    stream = IterableDatasetDict({"train": data["train"].with_format(None).to_iterable_dataset()})
    assert is_prepared(processor.apply(stream)["train"], 0)
    labels = data["train"].with_format("numpy", columns=["labels"])[:]
    assert labels["labels"].tolist() == [0, 1] * 3  # the other columns take any format


@pytest.mark.parametrize(
    ("operation", "rows"),
    [
        (lambda first, second: interleave_datasets([first, second]), 11),
        (lambda first, second: interleave_datasets([first.shuffle(seed=0), second.take(2)]), 4),
        (lambda first, second: interleave_datasets([first.filter(lambda row: row["labels"] == 1), second]), 5),
        (lambda first, second: concatenate_datasets([first, second]), 12),
        (lambda first, second: interleave_datasets([first, second]).map(lambda row: {"own": 1}), 11),
    ],
)
def test_streams_join(processor, operation, rows):
    streams = processor.apply(
        IterableDatasetDict({"train": raw().to_iterable_dataset(), "more": raw().to_iterable_dataset()})
    )
    joined = operation(streams["train"], streams["more"])
    assert is_prepared(joined) and len(list(joined)) == rows
