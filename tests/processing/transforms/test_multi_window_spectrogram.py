from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional

from hf_bml.processing import LogSpectrogram, MultiWindowSpectrogram

SMALL = {"window_lengths": [64, 128], "hop": 40, "size": [33, 20], "sampling_rate": 8000, "duration": 0.2}


def clip(seconds=0.15):
    return np.random.default_rng(0).uniform(-1, 1, int(8000 * seconds))


def test_the_papers_size():
    assert MultiWindowSpectrogram()([clip()])[0].shape == (3, 257, 299)


def test_each_channel_is_the_papers_spectrogram_resized():
    stacked = MultiWindowSpectrogram(**SMALL)([clip()])[0]
    assert stacked.shape == (2, 33, 20) and stacked.dtype == torch.float32
    for channel, window in zip(stacked, (64, 128), strict=True):
        single = LogSpectrogram(sampling_rate=8000, duration=0.2, window_length=window, overlap=window - 40)
        image = single([clip()])[0]
        assert image.shape == (1, window // 2 + 1, (1600 - window + 40) // 40)
        torch.testing.assert_close(channel, functional.resize(image, [33, 20], antialias=True)[0])


def test_a_window_of_the_results_size_is_left_as_it_is():
    one = MultiWindowSpectrogram(**{**SMALL, "window_lengths": [64], "size": [33, 39]})
    single = LogSpectrogram(sampling_rate=8000, duration=0.2, window_length=64, overlap=24)
    torch.testing.assert_close(one([clip()])[0], single([clip()])[0])


def test_options_of_the_spectrograms():
    silent = MultiWindowSpectrogram(**SMALL, min_rms=1e-3)
    with pytest.raises(ValueError, match=r"min_rms=0\.001"):
        silent([np.zeros(1600)])
    raw = MultiWindowSpectrogram(**SMALL, standardize=False, pad="zero", num_mel_bins=8)([clip(0.1)])[0]
    assert raw.min() < -10  # the log of appended silence


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window_lengths": []}, "window_lengths of at least hop=40"),
        ({"window_lengths": [32, 64]}, r"hop=40 >= 1 samples, found \[32, 64\]"),
        ({"hop": 0}, "hop=0"),
        ({"size": [33]}, r"size \(frequencies, frames\), both >= 1, found \[33\]"),
        ({"window_lengths": [64, 4096]}, "duration \\* sampling_rate >= window_length=4096"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        MultiWindowSpectrogram(**{**SMALL, **options})
