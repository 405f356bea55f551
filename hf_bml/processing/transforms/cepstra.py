"""Mel-frequency cepstral coefficients (MFCC) with their dynamics, as speech recognisers compute them.

Filter banks follow Kaldi: frames of 25 ms every 10 ms without padding, each without its mean, pre-emphasised and
weighted by Povey's window; triangular filters on Kaldi's mel scale.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from scipy.fft import dct
from torch import Tensor
from transformers.audio_utils import mel_filter_bank, window_function

FRAME_SECONDS, HOP_SECONDS = 0.025, 0.010
PRE_EMPHASIS = 0.97
LOWEST_FREQUENCY = 20.0  # Hz
MEL_FLOOR = 1.192092955078125e-07  # before the logarithm, as Kaldi's
DELTA_WINDOW = 5  # frames
STD_FLOOR = 1e-3  # far below what speech has; keeps the rounding errors of a constant coefficient small


def log_filter_bank(
    waveform: Tensor, sampling_rate: int = 16000, num_mel_bins: int = 30, window: str = "povey"
) -> Tensor:
    """Log energies of mel filters.

    Args:
        waveform: amplitudes, float (samples,), at least one frame (25 ms).
        sampling_rate: in Hz.
        num_mel_bins: filters between 20 Hz and half the sampling rate.
        window: "povey" (Kaldi's default) or "hann".

    Returns:
        (frames, num_mel_bins), frames = 1 + (samples - 25 ms) // 10 ms, in the waveform's dtype.

    Raises:
        ValueError: fewer samples than one frame.
    """
    length, hop = frame_samples(sampling_rate)
    if waveform.ndim != 1 or len(waveform) < length:
        raise ValueError(
            f"expected a waveform of shape (samples,) with at least one frame of {length} samples, found "
            f"{tuple(waveform.shape)}. Lengthen the clip, or set it to None."
        )
    weights, filters = _window_and_filters(sampling_rate, num_mel_bins, window)
    frames = waveform.unfold(0, length, hop)  # (frames, length)
    frames = frames - frames.mean(dim=1, keepdim=True)
    before = torch.cat([frames[:, :1], frames[:, :-1]], dim=1)
    frames = (frames - PRE_EMPHASIS * before) * weights.to(frames)
    spectrum = torch.fft.rfft(frames, n=2 * (len(filters) - 1))
    power = spectrum.real.square() + spectrum.imag.square()
    return (power @ filters.to(power)).clamp_min(MEL_FLOOR).log()


def mfcc(waveform: Tensor, sampling_rate: int = 16000, num_coefficients: int = 20, num_mel_bins: int = 30) -> Tensor:
    """The first coefficients of the orthonormal DCT of the log energies, (frames, num_coefficients)."""
    energies = log_filter_bank(waveform, sampling_rate, num_mel_bins)
    basis = dct(np.eye(num_mel_bins), norm="ortho")[:, :num_coefficients]  # (num_mel_bins, num_coefficients)
    return energies @ torch.from_numpy(basis).to(energies)


def with_deltas(coefficients: Tensor) -> Tensor:
    """Coefficients, their slopes over time and the slopes of these: (frames, dim) to (frames, 3 * dim).

    A slope is that of the regression line through five frames; at the ends the outermost frame is repeated.

    Example:
        >>> with_deltas(torch.arange(9.0)[:, None])[4].round(decimals=3).abs()
        tensor([4., 1., 0.])
    """
    from scipy.signal import savgol_filter  # slow to import

    values = coefficients.numpy()
    slopes = savgol_filter(values, DELTA_WINDOW, polyorder=1, deriv=1, axis=0, mode="nearest")
    second = savgol_filter(slopes, DELTA_WINDOW, polyorder=1, deriv=1, axis=0, mode="nearest")
    return torch.from_numpy(np.concatenate([values, slopes, second], axis=1))


def normalized_over_time(features: Tensor) -> Tensor:
    """Cepstral mean and variance normalisation of one clip, (frames, dim): every dimension has mean 0 and, unless it
    is constant, standard deviation 1."""
    std, mean = torch.std_mean(features, dim=0, correction=0)
    return (features - mean) / std.clamp_min(STD_FLOOR)


def frame_samples(sampling_rate: int) -> tuple[int, int]:
    """Samples of a frame, and from one frame to the next."""
    return round(FRAME_SECONDS * sampling_rate), round(HOP_SECONDS * sampling_rate)


@lru_cache(maxsize=8)
def _window_and_filters(sampling_rate: int, num_mel_bins: int, window: str) -> tuple[Tensor, Tensor]:
    length, _ = frame_samples(sampling_rate)
    fft_length = 2 ** (length - 1).bit_length()
    filters = mel_filter_bank(
        fft_length // 2 + 1,
        num_mel_bins,
        LOWEST_FREQUENCY,
        sampling_rate / 2,
        sampling_rate,
        mel_scale="kaldi",
        triangularize_in_mel_space=True,
    )
    return torch.from_numpy(window_function(length, window, periodic=False)), torch.from_numpy(filters)
