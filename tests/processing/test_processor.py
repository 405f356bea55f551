from __future__ import annotations

import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
from datasets import Audio, Dataset, DatasetDict, Features, Image, List, Value, load_from_disk
from PIL import Image as PILImage
from transformers import Wav2Vec2FeatureExtractor

from hf_bml.processing import PROCESSORS, MultimodalProcessor

AUDIO = {"type": "log_spectrogram", "sampling_rate": 8000, "duration": 0.1, "window_length": 200, "overlap": 120}
VISUAL = {"type": "frames", "size": 8, "num_channels": 1}
AUGMENTED = {**VISUAL, "augment": "crop_flip"}


def wav(seed):
    buffer = io.BytesIO()
    soundfile.write(buffer, np.random.default_rng(seed).uniform(-1, 1, 900), 8000, format="WAV")
    return {"bytes": buffer.getvalue(), "path": f"{seed}.wav"}


def picture(seed):
    return PILImage.fromarray(np.random.default_rng(seed).integers(0, 256, (12, 10), dtype=np.uint8))


def dataset(rows=5, absent_audio=(1,)):
    """Built through a cast, because encoding into `Audio` needs torchcodec."""
    undecoded = {"bytes": Value("binary"), "path": Value("string")}
    features = Features({"audio": undecoded, "visual": Image(), "labels": Value("int64")})
    audio = [None if row in absent_audio else wav(row) for row in range(rows)]
    columns = {"audio": audio, "visual": [picture(row) for row in range(rows)], "labels": list(range(rows))}
    return Dataset.from_dict(columns, features=features).cast_column("audio", Audio())


def test_batch_of_columns():
    processor = MultimodalProcessor({"audio": AUDIO, "visual": VISUAL})
    samples = {"audio": [wav(0), None], "visual": [picture(0), picture(1)], "labels": [3, 4], "id": ["a", "b"]}
    batch = processor(samples)
    assert list(batch) == ["audio", "visual", "labels", "id"]
    assert batch["audio"][0].shape == (1, 101, 8) and batch["audio"][1] is None
    assert [frame.shape for frame in batch["visual"]] == [(1, 8, 8)] * 2
    assert batch["labels"] == [3, 4] and batch["id"] == ["a", "b"]
    torch.testing.assert_close(batch["audio"][0], processor.transforms["audio"]([wav(0)])[0])


def test_training_switches_augmentation_on():
    processor = MultimodalProcessor({"visual": AUGMENTED})
    columns = {"visual": [picture(0)] * 2}
    first, second = processor(columns, training=True)["visual"]
    assert not torch.equal(first, second)
    torch.testing.assert_close(*processor(columns)["visual"])


@pytest.mark.parametrize(
    ("modalities", "message"),
    [
        ({}, "at least one modality"),
        ({"audio": {"size": 3}}, "expected a dict with 'type'"),
        ({"audio": {"type": "spectrogram"}}, "Did you mean 'log_spectrogram'"),
        ({"audio": {"type": 5}}, "Unknown processor type 5. Known:"),
        ({"audio": {**AUDIO, "num_mels": 4}}, "modality 'audio': .*Did you mean 'num_mel_bins'"),
        ({"audio": {**AUDIO, "pad": "no"}}, "modality 'audio': pad must be one of"),
        ({"audio": {**AUDIO, "duration": "long"}}, "modality 'audio'"),
        ({"audio": {"type": "tokens"}}, "modality 'audio': .*tokenizer"),
        ({"audio": {**AUDIO, "eps": torch.ones(1)}}, "JSON"),
    ],
)
def test_invalid_config(modalities, message):
    with pytest.raises(ValueError, match=message):
        MultimodalProcessor(modalities)


def test_missing_column_and_bad_value():
    processor = MultimodalProcessor({"audio": AUDIO, "visual": VISUAL})
    with pytest.raises(ValueError, match=r"\['audio', 'visual'\], found \['audio', 'image'\]: \['visual'\] missing"):
        processor({"audio": [None], "image": [None]})
    with pytest.raises(ValueError, match=r"\['visual'\] missing"):
        processor.apply(DatasetDict({"train": dataset().remove_columns("visual")}))
    with pytest.raises(ValueError, match="DatasetDict"):
        processor.apply(dataset())
    with pytest.raises(ValueError, match=r"modality 'audio': 7\.wav: expected an audio file.*\(row 1\)"):
        processor({"audio": [None, {"bytes": b"?", "path": "7.wav"}], "visual": [None, None]})


@pytest.mark.parametrize("num_proc", [None, 2])
def test_a_bad_value_is_named_by_split_and_row(num_proc):
    vectors = [[1.0, 2.0]] * 150
    good, bad = Dataset.from_dict({"a": vectors}), Dataset.from_dict({"a": [*vectors[:140], [1.0, float("nan")]]})
    with pytest.raises(ValueError, match=r"split 'test', modality 'a': Expected finite features.*\(row 140\)"):
        MultimodalProcessor({"a": {"type": "features"}}).apply(DatasetDict(train=good, test=bad), num_proc=num_proc)


def test_apply_equals_direct_processing():
    """Stored modalities, absent values and untouched columns, read without FFmpeg."""
    processor = MultimodalProcessor({"audio": AUDIO, "visual": VISUAL})
    train = processor.apply(DatasetDict({"train": dataset()}))["train"]
    rows = range(5)
    direct = processor({"audio": [wav(row) for row in rows], "visual": [picture(row) for row in rows]})
    for row in rows:
        if row == 1:
            assert train[row]["audio"] is None
        else:
            torch.testing.assert_close(train[row]["audio"], direct["audio"][row])
        torch.testing.assert_close(train[row]["visual"], direct["visual"][row])
        assert train[row]["labels"] == row
    assert list(train["labels"]) == list(rows)
    assert [value is None for value in train[:3]["audio"]] == [False, True, False]


def test_apply_keeps_random_modalities_raw_and_augments_only_training():
    processor = MultimodalProcessor({"audio": AUDIO, "visual": AUGMENTED})
    splits = processor.apply(DatasetDict({"train": dataset(), "test": dataset()}))
    for split in splits.values():
        assert isinstance(split.features["visual"], Image) and not isinstance(split.features["audio"], Audio)
    assert not torch.equal(splits["train"][0]["visual"], splits["train"][0]["visual"])
    expected = MultimodalProcessor({"visual": VISUAL})({"visual": [picture(0)]})["visual"][0]
    torch.testing.assert_close(splits["test"][0]["visual"], expected)
    named = processor.apply(DatasetDict({"fit": dataset()}), training_split="fit")["fit"]
    assert not torch.equal(named[0]["visual"], named[0]["visual"])


def test_apply_to_text_clips_and_sequences(tokenizer_path):
    modalities = {"text": {"type": "tokens", "tokenizer": tokenizer_path}, "sensor": {"type": "features"}}
    modalities["clip"] = {"type": "frames", "size": 4, "num_channels": 1}
    columns = {
        "text": ["the cat", None, "sat"],
        "sensor": [[[1.0, 2.0]], [[1.0, 2.0], [3.0, 4.0]], None],
        "clip": [[picture(0)] * 2, [picture(0)], None],
    }
    features = Features({"text": Value("string"), "sensor": List(List(Value("float32"))), "clip": List(Image())})
    splits = DatasetDict({"train": Dataset.from_dict(columns, features=features)})
    train = MultimodalProcessor(modalities).apply(splits)["train"]
    assert train[0]["text"]["input_ids"].tolist() == [2, 3] and train[1]["text"] is None
    assert train[1]["sensor"].tolist() == [[1.0, 2.0], [3.0, 4.0]] and train[2]["sensor"] is None
    assert train[0]["clip"].shape == (2, 1, 4, 4) and train[1]["clip"].shape == (1, 1, 4, 4)
    train[0]["sensor"].zero_()
    assert train[0]["sensor"].tolist() == [[1.0, 2.0]]


SCRIPT = """
import json, sys
from datasets import DatasetDict, disable_progress_bars, load_from_disk
from hf_bml.processing import MultimodalProcessor
disable_progress_bars()
processor = MultimodalProcessor(json.loads(sys.argv[2]))
split = processor.apply(DatasetDict({"train": load_from_disk(sys.argv[1])}))["train"]
print(json.dumps([split._fingerprint, split.cache_files[0]["filename"]]))
"""


def test_other_processes_find_the_cache(tmp_path):
    path = str(tmp_path / "data")
    dataset().save_to_disk(path)
    modalities = {"audio": AUDIO, "visual": AUGMENTED}
    environment = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", SCRIPT, path, json.dumps(modalities)]
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    there = json.loads(output.splitlines()[-1])
    here = MultimodalProcessor(modalities).apply(DatasetDict({"train": load_from_disk(path)}))["train"]
    assert there == [here._fingerprint, here.cache_files[0]["filename"]]
    assert len(list((tmp_path / "data").glob("cache-*.arrow"))) == 1
    other = {**modalities, "audio": {**AUDIO, "eps": 1e-6}}
    MultimodalProcessor(other).apply(DatasetDict({"train": load_from_disk(path)}))
    assert len(list((tmp_path / "data").glob("cache-*.arrow"))) == 2


def test_save_and_load(tmp_path):
    processor = MultimodalProcessor({"audio": AUDIO, "visual": {**AUGMENTED, "size": (8, 6)}})
    processor.save_pretrained(tmp_path / "model")
    saved = json.loads((tmp_path / "model" / "processor_config.json").read_text())
    assert saved["modalities"]["visual"]["size"] == [8, 6] and list(saved["modalities"]) == ["audio", "visual"]
    loaded = MultimodalProcessor.from_pretrained(tmp_path / "model")
    assert loaded.to_dict() == processor.to_dict() == MultimodalProcessor.from_dict(saved).to_dict()
    with pytest.raises(ValueError, match="version 2, found 0"):
        MultimodalProcessor.from_dict({**saved, "version": 0})


def test_every_type_shares_the_interface(tokenizer_path, tmp_path):
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    sources = {"tokens": [tokenizer_path], "waveform": [str(tmp_path)]}
    for name, processor in PROCESSORS.items():
        transform = processor(*sources.get(name, ()))
        assert isinstance(transform.is_random, bool) and transform([]) == []
