"""Log spectrograms of one clip with several window lengths: input of the surrogate for MWTSM, encoder `multi_window`.

A short window resolves time, a long one frequency. No description of the MWTSM of the paper's Table 8 was found; this
is what its name suggests, not the cited method.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2

from .base import Transform
from .spectrogram import LogSpectrogram


@dataclass(eq=False)
class MultiWindowSpectrogram(Transform):
    """Raw audio values -> `(windows, height, width)`, float32: a log spectrogram per window length, all of one size.

    Each is that of `LogSpectrogram`'s preset "paper", interpolated to `size`.

    Usage: `processors: {audio: {type: multi_window, window_lengths: [256, 512], duration: 3}}`

    Args:
        window_lengths: samples per segment, of each spectrogram.
        hop: samples from one segment to the next, at most the shortest window.
        size: frequencies and frames of the result; the default is the paper's size for 3 s at 16 kHz.
        sampling_rate: clips are resampled to this rate, in Hz.
        duration: length of every clip in seconds. Shorter clips are padded, longer ones cut to their centre.
        num_mel_bins: mel filters of every spectrogram; `None` keeps all frequencies.
        standardize: subtract each spectrogram's mean and divide by its standard deviation.
        pad: "repeat" tiles a short clip, "zero" appends silence.
        min_rms: clips whose root mean square amplitude is lower count as silent and raise MediaError.

    Raises:
        ValueError: an option is out of range.
        MediaError: A clip cannot be read, or is silent; the message names the file.

    Example:
        >>> MultiWindowSpectrogram()([torch.sin(torch.arange(20000.0))])[0].shape
        torch.Size([3, 257, 299])
    """

    signal = "audio"
    reads_video = True

    window_lengths: Sequence[int] = (256, 512, 1024)
    hop: int = 159
    size: Sequence[int] = (257, 299)
    sampling_rate: int = 16000
    duration: float = 3.0
    num_mel_bins: int | None = None
    standardize: bool = True
    pad: str = "repeat"
    min_rms: float = 0.0

    def __post_init__(self) -> None:
        if not self.window_lengths or self.hop < 1 or min(self.window_lengths) < self.hop:
            raise ValueError(
                f"Expected window_lengths of at least hop={self.hop} >= 1 samples, found {list(self.window_lengths)}. "
                "Lower hop or lengthen the windows."
            )
        if len(self.size) != 2 or min(self.size) < 1:
            raise ValueError(f"Expected size (frequencies, frames), both >= 1, found {self.size}. Give two numbers.")
        names = ("sampling_rate", "duration", "num_mel_bins", "standardize", "pad", "min_rms")
        shared = {name: vars(self)[name] for name in names}
        self.spectrograms = [
            LogSpectrogram(window_length=length, overlap=length - self.hop, **shared) for length in self.window_lengths
        ]

    @property
    def zeros(self) -> str | None:
        """What an input of zeros means."""
        return self.spectrograms[0].zeros

    @property
    def sizes(self) -> dict[str, int]:
        return {"num_windows": len(self.window_lengths)}

    def read(self, value: Any) -> Tensor:
        """The waveform of a clip (any form `read_waveform` accepts)."""
        return self.spectrograms[0].read(value)

    def from_signal(self, signal: Tensor, training: bool = False) -> Tensor:
        """The spectrograms of a waveform; `training` changes nothing."""
        images = [spectrogram.from_signal(signal) for spectrogram in self.spectrograms]
        return torch.cat([v2.functional.resize(image, list(self.size), antialias=True) for image in images])
