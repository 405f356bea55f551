"""Log spectrograms with the shapes used in the OPM/OGM papers.

Preset "paper" (TPAMI 2024, Sec. 4.2): at 16 kHz with a 512-sample window and 353 samples of overlap, 3 s give 257 x
299 and 10 s give 257 x 1004. Values equal
`log(scipy.signal.spectrogram(x, 16000, nperseg=512, noverlap=353)[2] + 1e-7)`. VGGSound's released loader tiles short
clips and standardises each spectrogram by its own mean and standard deviation: both are defaults here.

Preset "conference": what the code of the CVPR 2022 paper (OGM-GE) does for CREMA-D: 22.05 kHz, 3 s by tiling, log
magnitude of a centred Hann STFT, 257 x 188, not standardised. "conference_vggsound" is its VGGSound loader: a random
5 s (the centre in evaluation) of audio tiled to 10 s, window 256, hop 128; at 16 kHz, 129 x 626. Its Kinetics-Sounds
script uses Kaldi filter banks and has no preset.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.audio_utils import mel_filter_bank

from ...ground.suggestion import check_name
from ..media.waveform import check_min_rms, read_audible_waveform
from .base import Transform

TUKEY_SHAPE = 0.25
PRESET_OPTIONS = (
    *("sampling_rate", "duration", "window_length", "overlap"),
    *("scale", "standardize", "random_crop", "tile_to"),
)
PRESETS: dict[str, dict[str, Any]] = {
    name: dict(zip(PRESET_OPTIONS, values, strict=True))
    for name, *values in (
        ("paper", 16000, 3.0, 512, 353, "density", True, False, 0.0),
        ("conference", 22050, 3.0, 512, 159, "magnitude", False, False, 0.0),
        ("conference_vggsound", 16000, 5.0, 256, 128, "magnitude", False, True, 10.0),
    )
}


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
        waveform: amplitudes, shape (batch, samples), samples >= window_length.
        sampling_rate: in Hz.
        window_length: samples per segment.
        overlap: samples shared by neighbouring segments, 0 <= overlap < window_length.
        mel_filters: optional filters, shape (window_length // 2 + 1, mel_bins), applied to the power before the log.
        eps: added to the power before the log.

    Returns:
        shape (batch, frequencies, frames): frequencies = window_length // 2 + 1 (or mel_bins),
        frames = (samples - overlap) // (window_length - overlap).

    Raises:
        ValueError: the waveform is not (batch, samples) or is shorter than one window.
    """
    from scipy.signal import get_window  # slow to import

    if waveform.ndim != 2 or waveform.shape[1] < window_length:
        raise ValueError(
            f"Expected a waveform of shape (batch, samples >= window_length={window_length}), found "
            f"{tuple(waveform.shape)}. Add a batch axis, pad the clip or shorten the window."
        )
    window = torch.from_numpy(get_window(("tukey", TUKEY_SHAPE), window_length)).to(waveform)
    segments = waveform.unfold(1, window_length, window_length - overlap)  # (batch, frames, window_length)
    segments = segments - segments.mean(dim=-1, keepdim=True)
    spectrum = torch.fft.rfft(segments * window)
    power = (spectrum.real.square() + spectrum.imag.square()) / (sampling_rate * window.square().sum())
    mirrored = slice(1, -1 if window_length % 2 == 0 else None)  # bins whose negative frequency is folded in
    power[..., mirrored] *= 2
    if mel_filters is not None:
        power = power @ mel_filters.to(power)
    return torch.log(power + eps).transpose(1, 2)  # (batch, frequencies, frames)


def log_magnitude(
    waveform: Tensor,
    window_length: int = 512,
    overlap: int = 159,
    mel_filters: Tensor | None = None,
    eps: float = 1e-7,
) -> Tensor:
    """Natural logarithm of the magnitude of a short-time Fourier transform with centred periodic Hann windows.

    The signal is reflected at both ends by half a window, as librosa's `stft` did when the code was released.

    Args:
        waveform: amplitudes, shape (batch, samples), samples > window_length // 2.
        window_length: samples per segment.
        overlap: samples shared by neighbouring segments, 0 <= overlap < window_length.
        mel_filters: optional filters, shape (window_length // 2 + 1, mel_bins), applied to the magnitude.
        eps: added to the magnitude before the log.

    Returns:
        shape (batch, frequencies, frames), frames = 1 + samples // (window_length - overlap).
    """
    magnitude = torch.stft(
        waveform,
        n_fft=window_length,
        hop_length=window_length - overlap,
        window=torch.hann_window(window_length, dtype=waveform.dtype),
        center=True,
        pad_mode="reflect",
        return_complex=True,
    ).abs()  # (batch, frequencies, frames)
    if mel_filters is not None:
        magnitude = mel_filters.to(magnitude).T @ magnitude
    return torch.log(magnitude + eps)


@dataclass(eq=False)
class LogSpectrogram(Transform):
    """Raw audio values -> log spectrograms of one fixed shape `(1, frequencies, frames)`.

    Options that are `None` take the preset's value (in parentheses: "paper" / "conference" / "conference_vggsound").

    Usage: `processors: {audio: {type: log_spectrogram, sampling_rate: 16000, duration: 3}}`

    Args:
        sampling_rate: clips are resampled to this rate, in Hz (16000 / 22050 / 16000).
        duration: length of every clip in seconds (3 / 3 / 5). Shorter clips are padded, longer ones cut.
        window_length: samples per segment (512 / 512 / 256).
        overlap: samples shared by neighbouring segments, in [0, window_length) (353 / 159 / 128).
        num_mel_bins: apply that many triangular mel filters; `None` keeps all frequencies.
        standardize: subtract each spectrogram's mean and divide by its standard deviation (+ 1e-9) (yes / no / no).
        pad: "repeat" tiles a short clip, "zero" appends silence.
        random_crop: in training, cut long clips at a random place (global torch RNG) instead of the centre
            (no / no / yes).
        eps: added before the logarithm.
        preset: "paper", "conference" or "conference_vggsound"; see this module.
        scale: "density": log of the power density, mean of each segment removed, Tukey window; "magnitude": log of the
            magnitude, Hann window (density / magnitude / magnitude).
        tile_to: tile shorter clips to that many seconds before a crop; 0 does not tile (0 / 0 / 10).
        min_rms: clips whose root mean square amplitude is lower count as silent and raise MediaError; 1e-4 is -80 dB
            of full scale. 0 accepts silence, which is valid audio; a standardised silent clip is all zeros.
        segments: cut the clip into that many equal parts with a spectrogram each, (segments, 1, frequencies, frames),
            standardised together; None for one of the whole clip.

    Raises:
        ValueError: an option is out of range, or a mel filter covers no frequency bin.
        MediaError: A clip cannot be read, or is silent; the message names the file.

    Example:
        >>> import numpy as np
        >>> transform = LogSpectrogram(sampling_rate=16000, duration=3.0)
        >>> transform([np.sin(np.arange(20000))])[0].shape
        torch.Size([1, 257, 299])
        >>> LogSpectrogram(preset="conference")([np.sin(np.arange(20000))])[0].shape
        torch.Size([1, 257, 188])
    """

    signal = "audio"
    reads_video = True

    sampling_rate: int | None = None
    duration: float | None = None
    window_length: int | None = None
    overlap: int | None = None
    num_mel_bins: int | None = None
    standardize: bool | None = None
    pad: str = "repeat"
    random_crop: bool | None = None
    eps: float = 1e-7
    preset: str = "paper"
    scale: str | None = None
    tile_to: float | None = None
    min_rms: float = 0.0
    segments: int | None = None

    def __post_init__(self) -> None:
        check_name("preset", self.preset, PRESETS)
        vars(self).update({name: own for name, own in PRESETS[self.preset].items() if vars(self)[name] is None})
        window = self.window_length
        if self.tile_to < 0:
            raise ValueError(
                f"Expected tile_to >= 0, found {self.tile_to}. Give seconds, or 0 to leave clips as they are."
            )
        if not 0 <= self.overlap < window:
            raise ValueError(f"Expected 0 <= overlap < window_length={window}, found {self.overlap}. Lower overlap.")
        check_name("pad", self.pad, ("repeat", "zero"))
        check_name("scale", self.scale, ("density", "magnitude"))
        check_min_rms(self.min_rms)
        self.num_samples = round(self.duration * self.sampling_rate)
        if self.num_samples < window:
            raise ValueError(
                f"Expected duration * sampling_rate >= window_length={window} samples, found {self.duration} s * "
                f"{self.sampling_rate} Hz = {self.num_samples}. Lengthen duration or shorten window_length."
            )
        if self.segments is not None and not 1 <= self.segments <= self.num_samples // window:
            raise ValueError(
                f"Expected segments in [1, {self.num_samples // window}], so that each has at least "
                f"window_length={window} of {self.num_samples} samples, found {self.segments}. Lower segments."
            )
        bins = self.num_mel_bins
        self.mel_filters = None if bins is None else _mel_filters(bins, window, self.sampling_rate)

    @property
    def zeros(self) -> str | None:
        """What an input of zeros stands for."""
        return f"noise at {'the mean log level of a clip' if self.standardize else 'log level 0, louder than a clip'}"

    @property
    def is_random(self) -> bool:
        return self.random_crop

    @property
    def has_extract(self) -> bool:
        return self.random_crop

    @property
    def sizes(self) -> dict[str, int]:
        bins = self.window_length // 2 + 1 if self.num_mel_bins is None else self.num_mel_bins
        return {"num_channels": 1, "num_bins": bins}

    def read(self, value: Any) -> Tensor:
        """The mono waveform of a clip (any form `read_waveform` accepts), float32 (samples,)."""
        return read_audible_waveform(value, self.sampling_rate, self.min_rms)

    def from_signal(self, signal: Tensor, training: bool = False) -> Tensor:
        """A waveform -> its spectrogram (1, frequencies, frames), or (segments, 1, frequencies, frames)."""
        return self._transform(self._fit(signal, training))

    def _transform(self, clip: Tensor) -> Tensor:
        parts = clip[None]
        if self.segments is not None:
            parts = clip[: len(clip) // self.segments * self.segments].reshape(self.segments, -1)
        if self.scale == "density":
            spectrogram = log_spectrogram(
                parts, self.sampling_rate, self.window_length, self.overlap, self.mel_filters, self.eps
            )
        else:
            spectrogram = log_magnitude(parts, self.window_length, self.overlap, self.mel_filters, self.eps)
        if self.standardize:
            std, mean = torch.std_mean(spectrogram, correction=0)
            spectrogram = (spectrogram - mean) / (std + 1e-9)
        if self.segments is not None:
            spectrogram = spectrogram.unsqueeze(1)  # (segments, 1, frequencies, frames)
        return spectrogram.contiguous()  # (1, frequencies, frames)

    def _fit(self, waveform: Tensor, training: bool) -> Tensor:
        if self.tile_to:
            waveform = _tile(waveform, round(self.tile_to * self.sampling_rate))
        surplus = len(waveform) - self.num_samples
        if surplus >= 0:
            start = int(torch.randint(surplus + 1, ())) if training and self.random_crop else surplus // 2
            return waveform[start : start + self.num_samples]
        if self.pad == "zero":
            return torch.nn.functional.pad(waveform, (0, -surplus))
        return _tile(waveform, self.num_samples)[: self.num_samples]


def _tile(waveform: Tensor, num_samples: int) -> Tensor:
    """Repeat until there are at least that many samples."""
    return waveform if len(waveform) >= num_samples else waveform.repeat(-(-num_samples // len(waveform)))


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
