from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from tiny_checkpoints import tiny_wav2vec2
from transformers import ViTImageProcessor, Wav2Vec2FeatureExtractor, WhisperFeatureExtractor

from hf_bml import MultimodalProcessor
from hf_bml.processing import MultimodalDataCollator, Waveform

NOISE = np.random.default_rng(0).normal(0.1, 0.2, 24000).astype(np.float32).clip(-1, 1)  # 1.5 s


@pytest.fixture
def extractor_path(tmp_path):
    Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(tmp_path / "extractor")
    return str(tmp_path / "extractor")


def test_the_feature_extractor_normalises(extractor_path):
    transform = Waveform(extractor_path)
    assert transform.sampling_rate == 16000
    found = transform([NOISE])[0]
    assert found.keys() == {"input_values", "attention_mask"} == set(transform.output_keys)
    expected = (NOISE - NOISE.mean()) / np.sqrt(NOISE.var() + 1e-7)
    torch.testing.assert_close(found["input_values"], torch.from_numpy(expected), rtol=1e-4, atol=1e-5)
    assert found["attention_mask"].dtype == torch.int64 and found["attention_mask"].all()


def test_rate_and_duration(extractor_path):
    transform = Waveform(extractor_path, duration=0.5)
    at_8000 = {"array": NOISE[:8000], "sampling_rate": 8000}
    assert [len(value["input_values"]) for value in transform([NOISE, NOISE[:100], at_8000])] == [8000, 100, 8000]
    middle = Waveform(extractor_path)([NOISE[8000:16000]])[0]
    torch.testing.assert_close(transform([NOISE])[0], middle)


def test_without_a_mask_as_wav2vec2_base(tmp_path):
    transform = Waveform(tiny_wav2vec2(tmp_path / "wav2vec2"))
    assert transform([NOISE])[0].keys() == {"input_values"} == set(transform.output_keys)


def test_spectrograms_of_one_length(tmp_path):
    WhisperFeatureExtractor(feature_size=8, chunk_length=1).save_pretrained(tmp_path)
    assert Waveform(str(tmp_path))([NOISE])[0]["input_features"].shape == (8, 100)


def test_what_is_refused(extractor_path, tmp_path):
    with pytest.raises(ValueError, match="Expected duration > 0, found 0"):
        Waveform(extractor_path, duration=0)
    with pytest.raises(ValueError, match="min_rms"):
        Waveform(extractor_path, min_rms=2)
    ViTImageProcessor().save_pretrained(tmp_path / "images")
    with pytest.raises(ValueError, match="Unrecognized"):
        Waveform(str(tmp_path / "images"))


def test_the_feature_extractor_travels(extractor_path, tmp_path, monkeypatch):
    processor = MultimodalProcessor({"speech": {"type": "waveform", "feature_extractor": extractor_path}})
    files = processor.save_pretrained(tmp_path / "saved")
    assert files[-1].endswith("feature_extractor_speech/preprocessor_config.json")
    shutil.rmtree(extractor_path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "another machine's")
    loaded = MultimodalProcessor.from_pretrained(tmp_path / "saved")
    torch.testing.assert_close(loaded.prepare(speech=NOISE), processor.prepare(speech=NOISE))


def test_an_absent_clip_is_as_long_as_one_that_is_there(extractor_path):
    collator = MultimodalDataCollator(["speech", "other"])
    rows = [{"speech": value, "other": torch.ones(2)} for value in Waveform(extractor_path)([NOISE, NOISE[:5000]])]
    batch = collator([*rows, {"speech": None, "other": torch.ones(2)}])
    assert batch["speech"]["attention_mask"].sum(1).tolist() == [24000, 5000, 24000]
    absent = collator([{"speech": None, "other": torch.ones(2)}])
    assert absent["speech"]["input_values"].shape == (1, 24000), "convolutions do not take a single sample"
