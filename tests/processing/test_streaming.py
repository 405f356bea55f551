"""Streams of local parquet and webdataset shards, transformed while they are read."""

from __future__ import annotations

import io
import json
import tarfile

import datasets
import pytest
import torch
from datasets import Dataset, Features, IterableDatasetDict, Value, load_dataset
from datasets.distributed import split_dataset_by_node
from media_samples import grey_levels, needs_media_columns, write_clip

from hf_bml.processing import MultimodalDataCollator, MultimodalProcessor

AUDIO = {"type": "log_spectrogram", "sampling_rate": 8000, "duration": 0.5, "window_length": 128, "overlap": 64}
VISUAL = {"type": "video", "num_frames": 2, "size": 8, "mean": [0.0] * 3, "std": [1.0] * 3}
BOTH = {"audio": AUDIO, "visual": VISUAL}
SHARDS, ROWS = 4, 6


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    """`datasets` pauses for 5 s whenever the threads of a shuffled stream end."""
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0, raising=False)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", times=[0, 100, 200, 300], seconds=0.5).read_bytes()


@pytest.fixture(scope="module")
def parquet(clip, tmp_path_factory):
    """Four shards of six rows; every row holds the same video in both columns."""
    folder = tmp_path_factory.mktemp("parquet")
    raw = {"bytes": Value("binary"), "path": Value("string")}
    features = Features({"audio": raw, "visual": raw, "labels": Value("int64")})
    for shard in range(SHARDS):
        values = [{"bytes": clip, "path": f"{shard}-{row}.mp4"} for row in range(ROWS)]
        labels = [shard * ROWS + row for row in range(ROWS)]
        data = Dataset.from_dict({"audio": values, "visual": values, "labels": labels}, features=features)
        data.to_parquet(folder / f"train-{shard}.parquet")
    return str(folder / "train-*.parquet")


def stream(files) -> IterableDatasetDict:
    return load_dataset("parquet", data_files={"train": files}, streaming=True)


def labels(rows):
    return [row["labels"] for row in rows]


def test_rows_are_transformed_lazily(parquet):
    rows = MultimodalProcessor(BOTH).apply(stream(parquet))["train"]
    first = next(iter(rows))
    assert first["audio"].shape == (1, 65, 61) and grey_levels(first["visual"] * 255) == [0, 3]
    assert labels(rows) == list(range(SHARDS * ROWS))


def test_types_of_other_columns_are_kept(parquet):
    found = MultimodalProcessor(BOTH).apply(stream(parquet))
    assert found.passed_features == {"train": Features({"labels": Value("int64")})}


def test_batches_from_a_loader_with_workers(parquet):
    rows = MultimodalProcessor(BOTH).apply(stream(parquet))["train"]
    collate = MultimodalDataCollator(list(BOTH))
    batches = list(torch.utils.data.DataLoader(rows, batch_size=5, num_workers=2, collate_fn=collate))
    assert batches[0]["visual"].shape == (5, 2, 3, 8, 8)
    assert sorted(label for batch in batches for label in batch["labels"].tolist()) == list(range(SHARDS * ROWS))


def test_shuffled_with_a_buffer(parquet):
    data = stream(parquet)
    data["train"] = data["train"].shuffle(seed=0, buffer_size=8)
    rows = MultimodalProcessor(BOTH).apply(data)["train"]
    first = labels(rows)
    assert first == labels(rows) and first != sorted(first) and sorted(first) == list(range(SHARDS * ROWS))
    rows.set_epoch(1)
    assert labels(rows) != first


def test_random_transforms_only_in_the_training_split(parquet):
    data = IterableDatasetDict({"train": stream(parquet)["train"], "test": stream(parquet)["train"]})
    processor = MultimodalProcessor({"visual": {**VISUAL, "sampling": "random"}})
    splits = processor.apply(data)
    torch.manual_seed(0)
    drawn = {tuple(grey_levels(row["visual"] * 255)) for row in splits["train"]}
    assert len(drawn) > 3
    assert {tuple(grey_levels(row["visual"] * 255)) for row in splits["test"]} == {(0, 3)}


@pytest.mark.parametrize("buffer_size", [None, 8])
@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_do_not_overlap(parquet, world_size, buffer_size):
    data = stream(parquet)
    if buffer_size:
        data["train"] = data["train"].shuffle(seed=0, buffer_size=buffer_size)
    rows = MultimodalProcessor(BOTH).apply(data)["train"]
    parts = [labels(split_dataset_by_node(rows, rank, world_size)) for rank in range(world_size)]
    assert sorted(label for part in parts for label in part) == list(range(SHARDS * ROWS))
    assert all(abs(len(part) - SHARDS * ROWS / world_size) < 1 for part in parts)


@pytest.mark.parametrize("seen", [1, 7, 8, 20])
def test_the_position_is_resumed(parquet, seen):
    rows = MultimodalProcessor(BOTH).apply(stream(parquet))["train"]
    iterator = iter(rows)
    before = [next(iterator)["labels"] for _ in range(seen)]
    state = json.loads(json.dumps(rows.state_dict()))
    resumed = MultimodalProcessor(BOTH).apply(stream(parquet))["train"]
    resumed.load_state_dict(state)
    assert before + labels(resumed) == list(range(SHARDS * ROWS))


def test_a_resumed_shuffle_repeats_nothing_and_loses_at_most_its_buffer(parquet):
    def shuffled():
        data = stream(parquet)
        data["train"] = data["train"].shuffle(seed=0, buffer_size=4)
        return MultimodalProcessor(BOTH).apply(data)["train"]

    rows, resumed = shuffled(), shuffled()
    iterator = iter(rows)
    before = [next(iterator)["labels"] for _ in range(9)]
    resumed.load_state_dict(rows.state_dict())
    after = labels(resumed)
    assert not set(before) & set(after)
    assert len(before) + len(after) >= SHARDS * ROWS - 4


@pytest.mark.parametrize(("on_error", "kept"), [("mask", [0, 1, 3]), ("skip", [0, 3])])
def test_damaged_files(clip, tmp_path, on_error, kept, caplog):
    mute = write_clip(tmp_path / "mute.mp4", times=[0, 100], tone=None).read_bytes()
    values = [{"bytes": content, "path": f"{row}.mp4"} for row, content in enumerate([clip, mute, clip[:300], clip])]
    Dataset.from_dict({"audio": values, "visual": values, "labels": range(4)}).to_parquet(tmp_path / "a.parquet")
    rows = list(MultimodalProcessor(BOTH, on_error).apply(stream(str(tmp_path / "a.parquet")))["train"])
    assert labels(rows) == kept
    assert [row["audio"] is None for row in rows] == [row["labels"] == 1 for row in rows]
    assert "1.mp4: expected an audio stream" in caplog.text and "2.mp4" in caplog.text
    strict = MultimodalProcessor(BOTH).apply(stream(str(tmp_path / "a.parquet")))["train"]
    with pytest.raises(ValueError, match=r"modality 'audio': 1\.mp4: expected an audio stream"):
        list(strict)


def test_a_missing_column(parquet):
    with pytest.raises(ValueError, match=r"\['text'\] missing"):
        MultimodalProcessor({"text": {"type": "features"}}).apply(stream(parquet))


def test_webdataset_shards(clip, tmp_path):
    needs_media_columns()
    for shard in range(2):
        with tarfile.open(tmp_path / f"{shard}.tar", "w") as archive:
            for row in range(3):
                for name, content in (("mp4", clip), ("json", json.dumps({"label": 3 * shard + row}).encode())):
                    entry = tarfile.TarInfo(f"{shard}{row}.{name}")
                    entry.size = len(content)
                    archive.addfile(entry, io.BytesIO(content))
    data = load_dataset("webdataset", data_files={"train": str(tmp_path / "*.tar")}, streaming=True)
    processor = MultimodalProcessor({"mp4": VISUAL})
    rows = processor.apply(data)["train"]
    found = [(row["json"]["label"], grey_levels(row["mp4"] * 255)) for row in rows]
    assert found == [(label, [0, 3]) for label in range(6)]
    parts = [[row["json"]["label"] for row in split_dataset_by_node(rows, rank, 2)] for rank in (0, 1)]
    assert parts == [[0, 1, 2], [3, 4, 5]]
