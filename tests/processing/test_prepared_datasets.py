"""Prepared data sets leave the machine and come back: what is stored, what it refuses, the Hub, training from it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value, load_dataset
from media_samples import write_clip

from hf_bml.processing import MultimodalProcessor
from hf_bml.processing.transforms.spectrogram import LogSpectrogram
from hf_bml.processing.transforms.video_frames import VideoFrames

AUDIO = {"type": "log_spectrogram", "sampling_rate": 8000, "duration": 0.5, "window_length": 128, "overlap": 64}
VISUAL = {"type": "video", "num_frames": 2, "size": 8, "short_side": 16}
NAMES = ["dog", "bell", "rain"]


def configs(tokenizer):
    """A tensor, an extract that a random part follows, tokens, and a sequence."""
    return {
        "audio": AUDIO,
        "visual": {**VISUAL, "sampling": "segment", "fps": 10},
        "text": {"type": "tokens", "tokenizer": tokenizer},
        "sensor": {"type": "features", "input_size": 2},
    }


def clips(folder, rows=6):
    """Every third row lacks the sound, every second the text."""
    content = write_clip(folder / "clip.mp4", times=[0, 100, 200, 300], seconds=0.5).read_bytes()
    video = {"bytes": content, "path": "clip.mp4"}
    raw = {"bytes": Value("binary"), "path": Value("string")}
    types = {"audio": raw, "visual": raw, "text": Value("string"), "sensor": List(List(Value("float32")))}
    columns = {
        "audio": [None if row % 3 == 2 else video for row in range(rows)],
        "visual": [video] * rows,
        "text": [None if row % 2 else "the cat sat" for row in range(rows)],
        "sensor": [[[row, 1.0]] * (row + 1) for row in range(rows)],
        "labels": [row % 3 for row in range(rows)],
    }
    split = Dataset.from_dict(columns, features=Features({**types, "labels": ClassLabel(names=NAMES)}))
    return DatasetDict({"train": split, "validation": split, "test": split})


def assert_same(rows, expected):
    for row, other in zip(rows, expected, strict=True):
        assert row.keys() == other.keys() and row["labels"] == other["labels"]
        for name in ("audio", "visual", "sensor", "text"):
            values, others = (given[name] if name == "text" else {"": given[name]} for given in (row, other))
            assert (values is None) == (others is None)
            for key in values or {}:
                if others[key] is None:
                    assert values[key] is None
                else:
                    assert values[key].dtype == others[key].dtype and torch.equal(values[key], others[key])


@pytest.fixture
def prepared(tmp_path, tokenizer_path):
    """The processor, its splits, and the parquet files of one of them."""
    processor = MultimodalProcessor(configs(tokenizer_path))
    splits = processor.apply(clips(tmp_path))
    splits["test"].to_parquet(tmp_path / "test.parquet")
    return processor, splits, str(tmp_path / "test.parquet")


def test_stored_and_loaded(prepared, monkeypatch):
    processor, splits, file = prepared

    def refuse(*arguments, **options):
        raise AssertionError("computed again")

    expected = list(splits["test"])
    assert expected[0]["text"]["input_ids"].dtype == torch.int64 and expected[2]["audio"] is None
    monkeypatch.setattr(LogSpectrogram, "__call__", refuse)
    monkeypatch.setattr(VideoFrames, "extract", refuse)
    for streaming in (False, True):
        loaded = load_dataset("parquet", data_files={"test": file}, streaming=streaming)
        assert loaded["test"].features["labels"].names == NAMES
        assert_same(processor.apply(loaded)["test"], expected)
    loaded = load_dataset("parquet", data_files={"train": file})  # the random part is drawn at each access
    torch.manual_seed(0)
    drawn = [processor.apply(loaded)["train"][0]["visual"] for _ in range(4)]
    assert any(not torch.equal(drawn[0], other) for other in drawn[1:])


def test_another_processor_is_refused(prepared, tokenizer_path):
    _, _, file = prepared
    other = MultimodalProcessor({**configs(tokenizer_path), "audio": {**AUDIO, "duration": 0.25}})
    message = r"modality 'audio': expected tensors that this processor has prepared .* found those of another one"
    with pytest.raises(ValueError, match=rf"split 'test', {message}"):
        other.apply(load_dataset("parquet", data_files={"test": file}))
    with pytest.raises(ValueError, match=message):
        list(other.apply(load_dataset("parquet", data_files={"test": file}, streaming=True))["test"])


@pytest.mark.parametrize("on_error", ["mask", "skip"])
def test_prepared_and_raw_columns_together(tmp_path, on_error):
    """A row whose only modality is a prepared one is kept."""
    processor = MultimodalProcessor({"audio": AUDIO}, on_error)
    columns = clips(tmp_path)["train"].select_columns(["audio", "visual", "labels"])
    heard = processor.apply(DatasetDict({"train": columns.select_columns(["audio"])}))
    heard["train"].to_parquet(tmp_path / "audio.parquet")
    loaded = load_dataset("parquet", data_files={"train": str(tmp_path / "audio.parquet")})["train"]
    assert len(loaded) == 4  # rows 2 and 5 have no sound
    broken = [{"bytes": b"nothing", "path": "broken.mp4"}, *columns["visual"][:3]]
    loaded = loaded.add_column("visual", broken, feature=columns.features["visual"])
    both = MultimodalProcessor({"audio": AUDIO, "visual": VISUAL}, on_error)
    rows = both.apply(DatasetDict({"train": loaded}))["train"]
    assert [row["visual"] is None for row in rows] == ([True] + [False] * 3 if on_error == "mask" else [False] * 3)
    assert all(row["audio"].shape == (1, 65, 61) for row in rows)
    assert [failure["file"] for failure in both.failures["train"]] == ["broken.mp4"]


ROUND_TRIP = """
import json, pathlib, sys
import torch
from datasets import load_dataset
from transformers import pipeline
from hf_bml import MultimodalProcessor
from hf_bml.cli import main
from test_prepared_datasets import assert_same, clips, configs

torch.set_num_threads(1)
folder, tokenizer = pathlib.Path(sys.argv[1]), sys.argv[2]
processor = MultimodalProcessor(configs(tokenizer))
prepared = processor.apply(clips(folder))
prepared.push_to_hub("user/prepared")
for streaming in (False, True):
    loaded = load_dataset("user/prepared", streaming=streaming)
    assert list(loaded) == ["train", "validation", "test"]
    assert_same(processor.apply(loaded)["test"], prepared["test"])
assert main(["train", sys.argv[3]]) == 0
classifier = pipeline("multimodal-classification", model=str(folder / "run"), device="cpu")
result = classifier({"audio": folder / "clip.mp4", "visual": folder / "clip.mp4"})
names = loaded["train"].features["labels"].names
print(json.dumps({"labels": sorted(entry["label"] for entry in result), "names": names}))
"""
RECIPE = """
dataset: from_columns
dataset_options: {path: user/prepared, label: labels, modalities: {audio: audio, visual: visual}}
processors: %(processors)s
modalities:
  audio: {type: conv, in_channels: 1, channels: [4]}
  visual: {type: conv, in_channels: 3, channels: [4]}
modulations: {opm: {}}
output_dir: %(folder)s/run
max_steps: 2
per_device_train_batch_size: 3
use_cpu: true
report_to: none
"""


@pytest.mark.slow
def test_through_the_hub_into_training_and_prediction(fake_hub, tmp_path, tokenizer_path):
    """The run's processor is that of the raw data, so its model takes raw files."""
    processors = {name: config for name, config in configs(tokenizer_path).items() if name in ("audio", "visual")}
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE % {"processors": json.dumps(processors), "folder": tmp_path})
    process = subprocess.run(
        [sys.executable, "-c", ROUND_TRIP, str(tmp_path), tokenizer_path, str(recipe)],
        env={
            **fake_hub.environment(tmp_path / "home"),
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    assert json.loads(process.stdout.splitlines()[-1]) == {"labels": sorted(NAMES), "names": NAMES}
    assert "data/train-00000-of-00001.parquet" in fake_hub.files("dataset", "user/prepared")
