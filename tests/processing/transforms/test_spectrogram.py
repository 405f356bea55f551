from __future__ import annotations

import numpy as np
import pytest
import scipy.signal
import torch
from transformers.audio_utils import mel_filter_bank

from hf_bml.processing import LogSpectrogram, MediaError, log_spectrogram

GENERATOR = np.random.default_rng(0)


def reference(signal, rate=16000, window=512, overlap=353):
    return np.log(scipy.signal.spectrogram(signal, rate, nperseg=window, noverlap=overlap)[2] + 1e-7)


@pytest.mark.parametrize(("seconds", "frames"), [(3, 299), (10, 1004)])
def test_equals_scipy_with_the_paper_shape(seconds, frames):
    signal = GENERATOR.uniform(-1, 1, (2, 16000 * seconds))
    expected = reference(signal)
    actual = log_spectrogram(torch.from_numpy(signal).float())
    assert actual.shape == (2, 257, frames) == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=1e-4)
    np.testing.assert_allclose(actual.exp(), np.exp(expected), rtol=1e-4)  # the power itself, too


def test_equals_scipy_for_a_tone_and_silence():
    time = np.arange(16000) / 16000
    tone = 0.3 + 0.5 * np.sin(2 * np.pi * 1000 * time) * (time > 0.5)
    actual = log_spectrogram(torch.from_numpy(tone).float()[None])[0]
    np.testing.assert_allclose(actual, reference(tone), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("rate", "window", "overlap"), [(8000, 200, 120), (8000, 33, 0), (4000, 8, 7)])
def test_equals_scipy_for_other_windows(rate, window, overlap):
    signal = GENERATOR.normal(size=(3, 999))
    actual = log_spectrogram(torch.from_numpy(signal), rate, window, overlap)
    np.testing.assert_allclose(actual, reference(signal, rate, window, overlap), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", [(511,), (1, 511), (1, 1, 600)])
def test_rejects_wrong_shape(shape):
    with pytest.raises(ValueError, match="window_length=512"):
        log_spectrogram(torch.zeros(shape))


def test_mel_filters_act_on_the_power():
    signal = GENERATOR.uniform(-1, 1, 8000)
    transform = LogSpectrogram(8000, 1.0, window_length=200, overlap=120, num_mel_bins=40, standardize=False)
    power = scipy.signal.spectrogram(signal, 8000, nperseg=200, noverlap=120)[2]
    expected = np.log(mel_filter_bank(101, 40, 0.0, 4000.0, 8000).T @ power + 1e-7)
    actual = transform([signal])[0]
    assert actual.shape == (1, 40, 98)
    np.testing.assert_allclose(actual[0], expected, rtol=1e-4, atol=1e-4)


def test_standardized_output_has_zero_mean_and_unit_deviation():
    for spectrogram in LogSpectrogram()([GENERATOR.uniform(-1, 1, n) for n in (16000, 48000, 60000)]):
        assert spectrogram.shape == (1, 257, 299) and spectrogram.dtype == torch.float32
        assert abs(float(spectrogram.mean())) < 1e-4
        assert float(spectrogram.std(correction=0)) == pytest.approx(1, abs=1e-4)


def test_silence_is_finite():
    assert torch.isfinite(LogSpectrogram(duration=1.0)([np.zeros(16000)])[0]).all()


def test_short_clips_are_tiled_or_zero_padded_and_long_ones_cut_at_the_centre():
    options = {"sampling_rate": 100, "duration": 1.0, "window_length": 50, "overlap": 0, "standardize": False}
    short, long = GENERATOR.uniform(-1, 1, 40), GENERATOR.uniform(-1, 1, 140)
    tiled = np.concatenate([short, short, short[:20]])
    padded = np.concatenate([short, np.zeros(60)])
    for pad, clip, expected in [("repeat", short, tiled), ("zero", short, padded), ("zero", long, long[20:120])]:
        actual = LogSpectrogram(pad=pad, **options)([clip])[0][0]
        np.testing.assert_allclose(actual, reference(expected, 100, 50, 0), rtol=1e-4, atol=1e-4)


def test_random_crop_only_in_training():
    transform = LogSpectrogram(100, 1.0, window_length=50, overlap=0, random_crop=True)
    clip = GENERATOR.uniform(-1, 1, 500)
    torch.manual_seed(0)
    crops = [transform([clip], training=True)[0] for _ in range(3)]
    assert transform.is_random and not LogSpectrogram().is_random
    assert not torch.equal(crops[0], crops[1])
    torch.testing.assert_close(transform([clip])[0], transform([clip])[0])
    torch.manual_seed(0)
    torch.testing.assert_close(transform([clip], training=True)[0], crops[0])


def conference(signal, window, hop):
    """librosa's stft with reflected ends, written with numpy: log magnitude (frequencies, frames)."""
    padded = np.pad(signal, window // 2, mode="reflect")
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    starts = range(0, len(padded) - window + 1, hop)
    return np.log(np.abs(np.stack([np.fft.rfft(hann * padded[s : s + window]) for s in starts], axis=1)) + 1e-7)


def test_conference_preset():
    """The CVPR 2022 code: tiled to 3 s of 22.05 kHz, bounded to +-1, n_fft 512, hop 353."""
    clip = GENERATOR.uniform(-1.5, 1.5, 30000)
    expected = conference(np.tile(clip, 10)[: 22050 * 3].clip(-1, 1), 512, 353)
    actual = LogSpectrogram(preset="conference")([clip])[0]
    assert actual.shape == (1, 257, 188)
    np.testing.assert_allclose(actual[0], expected, rtol=1e-3, atol=1e-3)


def test_conference_preset_equals_librosa():
    librosa = pytest.importorskip("librosa", reason="an optional second reference")
    clip = GENERATOR.uniform(-1, 1, 22050 * 3)
    expected = np.log(np.abs(librosa.stft(clip, n_fft=512, hop_length=353, pad_mode="reflect")) + 1e-7)
    np.testing.assert_allclose(LogSpectrogram(preset="conference")([clip])[0][0], expected, rtol=1e-3, atol=1e-3)


def test_conference_vggsound_preset():
    transform = LogSpectrogram(preset="conference_vggsound")
    clip = GENERATOR.uniform(-1, 1, 16000 * 4)
    tiled = np.tile(clip, 3)  # 12 s: at least 10
    centre = (len(tiled) - 80000) // 2
    actual = transform([clip])[0]
    assert actual.shape == (1, 129, 626) and transform.is_random and transform.has_extract
    np.testing.assert_allclose(actual[0], conference(tiled[centre : centre + 80000], 256, 128), rtol=1e-3, atol=1e-3)
    stored = transform.extract([clip])
    torch.testing.assert_close(stored[0], torch.from_numpy(clip).float())
    torch.manual_seed(0)
    first, second = transform.finish(stored * 2, training=True)
    assert not torch.equal(first, second)
    torch.testing.assert_close(transform.finish(stored)[0], actual)


def test_options_replace_those_of_the_preset():
    transform = LogSpectrogram(preset="conference", duration=1.0, standardize=True)
    result = transform([GENERATOR.uniform(-1, 1, 30000)])[0]
    assert result.shape == (1, 257, 63) and abs(float(result.mean())) < 1e-4
    assert LogSpectrogram(preset="paper", duration=10)([np.ones(5)])[0].shape == (1, 257, 1004)


def test_tiling_can_be_switched_off():
    """A clip of 6 s: its centre is cut from the clip itself, not from the clip and a repetition."""
    clip = np.random.default_rng(0).uniform(-1, 1, 96000).astype(np.float32)
    preset = {"preset": "conference_vggsound"}
    tiled, plain = (LogSpectrogram(**preset, **options)([clip])[0] for options in ({}, {"tile_to": 0}))
    repeated, centre = np.concatenate([clip, clip]), clip[8000:88000]
    torch.testing.assert_close(tiled, LogSpectrogram(**preset)([repeated])[0])
    torch.testing.assert_close(plain, LogSpectrogram(**preset, duration=5.0, tile_to=0)([centre])[0])
    assert not torch.equal(tiled, plain)


def test_min_rms():
    quiet = 1e-3 * np.sin(np.arange(16000))
    assert LogSpectrogram(min_rms=1e-4)([quiet])[0].isfinite().all()
    with pytest.raises(MediaError, match=r"audio: expected a level of at least min_rms=0\.001, found 0\.00071"):
        LogSpectrogram(min_rms=1e-3)([quiet])


def test_no_clips():
    assert LogSpectrogram()([]) == []


@pytest.mark.filterwarnings("ignore:At least one mel filter")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overlap": 512}, "overlap < window_length=512"),
        ({"pad": "mirror"}, "pad must be one of"),
        ({"duration": 0.01}, "160"),
        ({"num_mel_bins": 300}, "empty filters"),
        ({"preset": "conferense"}, "'conference', 'conference_vggsound'"),
        ({"scale": "power"}, "scale must be one of"),
        ({"min_rms": 1.0}, "min_rms"),
        ({"tile_to": -1.0}, "tile_to >= 0, found -1"),
    ],
)
def test_invalid_options(options, message):
    with pytest.raises(ValueError, match=message):
        LogSpectrogram(**options)
