"""Log power spectrogram with the shape used in the OPM/OGM paper (TPAMI 2024, Sec. 4.2).

At 16 kHz with a 512-sample window and 353 samples of overlap, 3 s give 257 x 299 and 10 s give 257 x 1004. Values
equal `log(scipy.signal.spectrogram(x, 16000, nperseg=512, noverlap=353)[2] + 1e-7)`. VGGSound's released loader
tiles short clips and standardises each spectrogram by its own mean and standard deviation: both are defaults here.
"""

from typing import Any

import torch
from scipy.signal import get_window
from torch import Tensor
from transformers.audio_utils import mel_filter_bank

from .waveform import read_waveform

TUKEY_SHAPE = 0.25


def log_spectrogram(
    waveform: Tensor,
    sampling_rate: int = 16000,
    window_length: int = 512,
    overlap: int = 353,
    mel_filters: Tensor | None = None,
    eps: float = 1e-7,
) -> Tensor:
    """Natural logarithm of the one-sided power spectral density of every segment.

    Each segment loses its mean, is weighted by a periodic Tukey(0.25) window and scaled to a density (1/Hz), as
    `scipy.signal.spectrogram` does by default.

    Args:
        waveform: Amplitudes, shape (batch, samples), samples >= window_length.
        sampling_rate: In Hz.
        window_length: Samples per segment.
        overlap: Samples shared by neighbouring segments, 0 <= overlap < window_length.
        mel_filters: Optional filters, shape (window_length // 2 + 1, mel_bins), applied to the power before the log.
        eps: Added to the power before the log.

    Returns:
        Shape (batch, frequencies, frames): frequencies = window_length // 2 + 1 (or mel_bins),
        frames = (samples - overlap) // (window_length - overlap).

    Raises:
        ValueError: The waveform is not (batch, samples) or is shorter than one window.
    """
    if waveform.ndim != 2 or waveform.shape[1] < window_length:
        raise ValueError(
            f"Expected a waveform of shape (batch, samples >= window_length={window_length}), found "
            f"{tuple(waveform.shape)}. Add a batch axis, pad the clip or shorten the window."
        )
    window = torch.from_numpy(get_window(("tukey", TUKEY_SHAPE), window_length)).to(waveform)
    segments = waveform.unfold(1, window_length, window_length - overlap)  # (batch, frames, window_length)
    segments = segments - segments.mean(dim=-1, keepdim=True)
    power = torch.fft.rfft(segments * window).abs().square() / (sampling_rate * window.square().sum())
    mirrored = slice(1, -1 if window_length % 2 == 0 else None)  # bins whose negative frequency is folded in
    power[..., mirrored] *= 2
    if mel_filters is not None:
        power = power @ mel_filters.to(power)
    return torch.log(power + eps).transpose(1, 2)  # (batch, frequencies, frames)


class LogSpectrogram:
    """Raw audio values -> log spectrograms of one fixed shape `(1, frequencies, frames)`.

    Args:
        sampling_rate: Clips are resampled to this rate, in Hz.
        duration: Length of every clip in seconds. Shorter clips are padded, longer ones cut.
        window_length: Samples per segment.
        overlap: Samples shared by neighbouring segments, in [0, window_length).
        num_mel_bins: Apply that many triangular mel filters to the power; `None` keeps all frequencies.
        standardize: Subtract each spectrogram's mean and divide by its standard deviation (+ 1e-9).
        pad: "repeat" tiles a short clip, "zero" appends silence.
        random_crop: In training, cut long clips at a random place (global torch RNG) instead of the centre.
        eps: Added to the power before the logarithm.

    Raises:
        ValueError: An option is out of range, or a mel filter covers no frequency bin.

    Example:
        >>> import numpy as np
        >>> transform = LogSpectrogram(sampling_rate=16000, duration=3.0)
        >>> transform([np.sin(np.arange(20000))])[0].shape
        torch.Size([1, 257, 299])
    """

    output_keys = None
    num_channels = 1

    def __init__(
        self,
        sampling_rate: int = 16000,
        duration: float = 3.0,
        window_length: int = 512,
        overlap: int = 353,
        num_mel_bins: int | None = None,
        standardize: bool = True,
        pad: str = "repeat",
        random_crop: bool = False,
        eps: float = 1e-7,
    ):
        if not 0 <= overlap < window_length:
            raise ValueError(f"Expected 0 <= overlap < window_length={window_length}, found {overlap}. Lower overlap.")
        if pad not in ("repeat", "zero"):
            raise ValueError(f"Expected pad 'repeat' or 'zero', found {pad!r}. Choose one of the two.")
        self.num_samples = round(duration * sampling_rate)
        if self.num_samples < window_length:
            raise ValueError(
                f"Expected duration * sampling_rate >= window_length={window_length} samples, found {duration} s * "
                f"{sampling_rate} Hz = {self.num_samples}. Lengthen duration or shorten window_length."
            )
        self.sampling_rate = sampling_rate
        self.window_length = window_length
        self.overlap = overlap
        self.mel_filters = None if num_mel_bins is None else _mel_filters(num_mel_bins, window_length, sampling_rate)
        self.standardize = standardize
        self.pad = pad
        self.random_crop = random_crop
        self.eps = eps

    @property
    def is_random(self) -> bool:
        """Whether training output depends on random draws."""
        return self.random_crop

    def __call__(self, values: list[Any], training: bool = False) -> list[Tensor]:
        """Transform clips (any form `read_waveform` accepts) to tensors of shape (1, frequencies, frames)."""
        clips = [self._fit(read_waveform(value, self.sampling_rate), training) for value in values]
        if not clips:
            return []
        spectrograms = log_spectrogram(
            torch.stack(clips), self.sampling_rate, self.window_length, self.overlap, self.mel_filters, self.eps
        )
        if self.standardize:
            std, mean = torch.std_mean(spectrograms, dim=(1, 2), correction=0, keepdim=True)
            spectrograms = (spectrograms - mean) / (std + 1e-9)
        return list(spectrograms.unsqueeze(1).contiguous())

    def _fit(self, waveform: Tensor, training: bool) -> Tensor:
        surplus = len(waveform) - self.num_samples
        if surplus >= 0:
            start = int(torch.randint(surplus + 1, ())) if training and self.random_crop else surplus // 2
            return waveform[start : start + self.num_samples]
        if self.pad == "zero":
            return torch.nn.functional.pad(waveform, (0, -surplus))
        return waveform.repeat(-(-self.num_samples // len(waveform)))[: self.num_samples]


def _mel_filters(num_mel_bins: int, window_length: int, sampling_rate: int) -> Tensor:
    num_frequencies = window_length // 2 + 1
    filters = mel_filter_bank(num_frequencies, num_mel_bins, 0.0, sampling_rate / 2, sampling_rate)
    num_empty = int((filters.max(axis=0) == 0).sum())
    if num_empty:
        raise ValueError(
            f"num_mel_bins={num_mel_bins}: expected every mel filter to cover one of {num_frequencies} frequency "
            f"bins, found {num_empty} empty filters. Lower num_mel_bins or raise window_length={window_length}."
        )
    return torch.from_numpy(filters).float()
