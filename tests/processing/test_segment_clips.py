"""Clips cut into segments: the collator's `segments` and the spectrogram's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hf_bml.processing import MultimodalDataCollator
from hf_bml.processing.transforms.spectrogram import LogSpectrogram


def sample(labels=(0, 2), **changes):
    return {"audio": torch.ones(2, 3), "visual": torch.ones(2, 4, 4, 5), "labels": list(labels), **changes}


@pytest.fixture
def collator():
    return MultimodalDataCollator(["audio", "visual"], num_labels=3, segments=True)


def test_clips_are_stacked(collator):
    batch = collator([sample(), sample(labels=torch.tensor([1, 1])), sample(labels=np.array([2, 0]))])
    assert batch["audio"].shape == (3, 2, 3) and batch["visual"].shape == (3, 2, 4, 4, 5)
    assert batch["labels"].tolist() == [[0, 2], [1, 1], [2, 0]] and batch["labels"].dtype == torch.int64
    assert "modality_mask" not in batch


def test_absent_in_some_samples_and_in_all(collator):
    batch = collator([sample(audio=None), sample()])
    assert batch["modality_mask"].tolist() == [[False, True], [True, True]]
    assert batch["audio"][0].eq(0).all() and batch["audio"].shape == (2, 2, 3)
    batch = collator([sample(audio=None), sample(audio=None)])
    assert batch["audio"].shape == (2, 2, 3)


def test_dicts_and_prediction(collator):
    rows = [{"audio": {"input_ids": torch.ones(2, 6, dtype=torch.long)}, "visual": torch.ones(2, 5)}] * 2
    batch = collator(rows)
    assert batch["audio"]["input_ids"].shape == (2, 2, 6) and "labels" not in batch


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([sample(labels=(0, 3))], r"sample 0: segment 1: expected an integer label in \[0, 3\), found 3"),
        ([sample(), sample(labels=(0,))], r"sample 1: expected 2 labels as in sample 0, found \[0\]"),
        ([sample(labels=())], "sample 0: expected a list of labels, one per segment"),
        ([{**sample(), "labels": 1}], "sample 0: expected a list of labels, one per segment, found 1"),
        (
            [sample(audio=torch.ones(3, 3))],
            r"sample 0: modality 'audio' needs a row per segment, \(2, ...\).*\(3, 3\)",
        ),
        ([sample(visual=torch.ones(2))], r"modality 'visual' needs a row per segment"),
    ],
)
def test_bad_samples(collator, rows, message):
    with pytest.raises(ValueError, match=message):
        collator(rows)


def test_labels_of_segments_for_a_collator_of_whole_clips():
    with pytest.raises(ValueError, match=r"found \[0, 2\]. For a label per segment use segments=True"):
        MultimodalDataCollator(["audio"])([{"audio": torch.ones(3), "labels": [0, 2]}])


def test_a_spectrogram_per_segment():
    options = {"sampling_rate": 1000, "duration": 1.0, "window_length": 50, "overlap": 25}
    waveform = np.random.default_rng(0).normal(scale=0.3, size=1000)
    [cut] = LogSpectrogram(**options, standardize=False, segments=4)([waveform])
    assert cut.shape == (4, 1, 26, 9)
    for index in range(4):
        part = {**options, "duration": 0.25}
        [whole] = LogSpectrogram(**part, standardize=False)([waveform[250 * index : 250 * (index + 1)]])
        torch.testing.assert_close(cut[index], whole)
    [cut] = LogSpectrogram(**options, segments=4)([waveform])
    assert abs(float(cut.mean())) < 1e-5 and float(cut.std()) == pytest.approx(1, abs=1e-2)
    with pytest.raises(ValueError, match=r"segments in \[1, 20\].*found 21"):
        LogSpectrogram(**options, segments=21)
