from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from hf_bml.processing.transforms.cepstra import log_filter_bank, mfcc, normalized_over_time, with_deltas


@pytest.mark.parametrize(("rate", "window"), [(16000, "povey"), (8000, "hann")])
def test_filter_bank_equals_that_of_transformers(rate, window):
    waveform = np.random.default_rng(0).normal(scale=0.1, size=rate // 3)
    length, fft = rate // 40, {16000: 512, 8000: 256}[rate]
    filters = mel_filter_bank(fft // 2 + 1, 26, 20, rate / 2, rate, mel_scale="kaldi", triangularize_in_mel_space=True)
    expected = spectrogram(
        waveform,
        window_function(length, window, periodic=False),
        length,
        rate // 100,
        fft,
        power=2.0,
        center=False,
        preemphasis=0.97,
        mel_filters=filters,
        log_mel="log",
        mel_floor=1.192092955078125e-07,
        remove_dc_offset=True,
    ).T
    found = log_filter_bank(torch.from_numpy(waveform), rate, 26, window)
    torch.testing.assert_close(found, torch.from_numpy(expected).double(), atol=1e-4, rtol=1e-4)


def test_cepstra_invert_to_the_energies_when_all_are_kept():
    waveform = torch.randn(4000, dtype=torch.float64)
    energies = log_filter_bank(waveform, num_mel_bins=24)
    cepstra = mfcc(waveform, num_coefficients=24, num_mel_bins=24)
    assert cepstra.shape == (1 + (4000 - 400) // 160, 24)
    torch.testing.assert_close(cepstra.norm(dim=1), energies.norm(dim=1))
    torch.testing.assert_close(cepstra[:, 0], energies.sum(1) / 24**0.5)
    torch.testing.assert_close(mfcc(waveform, num_coefficients=5, num_mel_bins=24), cepstra[:, :5])


def test_deltas():
    # (2 * (c[t+2] - c[t-2]) + (c[t+1] - c[t-1])) / 10, the ends repeated
    slopes = with_deltas(torch.tensor([[0.0], [0.0], [1.0], [0.0], [0.0], [0.0], [0.0]]))[:, 1]
    torch.testing.assert_close(slopes, torch.tensor([0.2, 0.1, 0.0, -0.1, -0.2, 0.0, 0.0]))
    parabola = with_deltas(torch.arange(9.0).square()[:, None])
    torch.testing.assert_close(parabola[4], torch.tensor([16.0, 8.0, 2.0]))


def test_normalisation_and_constants():
    features = torch.stack([torch.tensor([1.0, 3.0, 1.0, 3.0]), torch.full((4,), 7.3)], dim=1)
    assert normalized_over_time(features).tolist() == [[-1, 0], [1, 0], [-1, 0], [1, 0]]
    assert normalized_over_time(torch.randn(1, 3)).tolist() == [[0, 0, 0]]


def test_too_short():
    with pytest.raises(ValueError, match="at least one frame of 400 samples, found"):
        log_filter_bank(torch.zeros(399))
    assert log_filter_bank(torch.zeros(400)).shape == (1, 30)
