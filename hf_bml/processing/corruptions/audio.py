"""Corruptions of a waveform, at the transform's sampling rate, before it is padded or cropped.

Nothing is clipped, or the ratio of signal to noise would not be what was asked for: at low ratios amplitudes exceed 1,
which transforms of this package take.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from .base import Corruption, Surroundings, check_number, number

ORDER = 4  # of the Butterworth filter, which is applied forwards and backwards


@dataclass(frozen=True)
class WhiteNoise(Corruption):
    """Gaussian white noise.

    Args:
        snr: ratio of the clip's mean power to that of the noise, in dB; that of the very result. Pauses belong to the
            clip: where half of it is silence, speech is 3 dB louder than it says. A silent clip, which has no such
            ratio, stays silent.

    Raises:
        ValueError: `snr` is not a finite number.
    """

    name, signal = "white_noise", "audio"
    severity, unit, severities = "snr", " dB", (20.0, 10.0, 0.0)

    snr: float = number(10.0)

    def __call__(self, signal: Tensor, rng: np.random.Generator, around: Surroundings) -> Tensor:
        """White noise over the whole clip, (samples,)."""
        return with_noise(signal, rng.standard_normal(len(signal)), self.snr)


@dataclass(frozen=True)
class Babble(Corruption):
    """A mixture of other rows of the same split, all equally loud.

    Each starts at a random place and is repeated where it is shorter. Rows that are silent, absent, or equal to the
    clip are not used, so it is never mixed with itself.

    Args:
        snr: ratio of the clip's mean power to that of the mixture, in dB, as of `WhiteNoise`.
        num_others: how many rows are mixed; fewer where there are fewer.

    Raises:
        ValueError: `snr` is not a finite number or `num_others` no positive integer; in a call, no other row can be
            used.
    """

    name, signal, needs = "babble", "audio", ("others",)
    severity, unit, severities = "snr", " dB", (10.0, 0.0, -5.0)

    snr: float = number(0.0)
    num_others: int = number(5, 1, whole=True)

    def __call__(self, signal: Tensor, rng: np.random.Generator, around: Surroundings) -> Tensor:
        """The clip, (samples,), with the mixture over its whole length."""
        mixture, found = np.zeros(len(signal)), 0
        for index in random_order(len(around.others), rng):
            other = around.others[index]
            if other is None or torch.equal(other, signal) or not (level := float(other.double().square().mean())):
                continue
            start = int(rng.integers(len(other)))
            part = np.take(other.double().numpy(), np.arange(start, start + len(signal)), mode="wrap")
            if not part.any():
                continue
            mixture += part / level**0.5
            found += 1
            if found == self.num_others:
                break
        if not found:
            raise ValueError(
                f"babble: expected another row with sound to mix in, found none among {len(around.others)}. Use more "
                "rows, or white_noise."
            )
        return with_noise(signal, mixture, self.snr)


@dataclass(frozen=True)
class Telephone(Corruption):
    """The band of a telephone: a Butterworth filter without delay, 6 dB down at both ends of the band.

    Above half the sampling rate there is nothing to cut: at 6 kHz only the low end is.

    Args:
        low: of the band, in Hz.
        high: of the band, in Hz.

    Raises:
        ValueError: not 0 < low < high; in a call, a sampling rate of at most twice `low`.
    """

    name, signal, needs = "telephone", "audio", ("sampling_rate",)

    low: float = number(300.0, 0, above=True)
    high: float = 3400.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self.name, "high", self.high, self.low, above=True)

    def __call__(self, signal: Tensor, rng: np.random.Generator, around: Surroundings) -> Tensor:
        """The filtered clip, (samples,); nothing is drawn."""
        from scipy.signal import sosfiltfilt  # slow to import

        rate = around.sampling_rate
        if rate <= 2 * self.low:
            raise ValueError(f"telephone: expected a sampling rate above {2 * self.low:g} Hz, found {rate}. Raise it.")
        sections = band_filter(self.low, self.high, rate)
        padding = min(3 * (2 * len(sections) + 1), len(signal) - 1)
        filtered = sosfiltfilt(sections, signal.double().numpy(), padlen=padding)
        return torch.from_numpy(filtered.copy()).to(signal.dtype)


@lru_cache(maxsize=8)
def band_filter(low: float, high: float, sampling_rate: int) -> np.ndarray:
    """Second-order sections of a Butterworth filter for a band in Hz; without upper end where the rate allows none."""
    from scipy.signal import butter  # slow to import

    if high < sampling_rate / 2:
        return butter(ORDER, (low, high), "bandpass", fs=sampling_rate, output="sos")
    return butter(ORDER, low, "highpass", fs=sampling_rate, output="sos")


def with_noise(signal: Tensor, noise: np.ndarray, snr: float) -> Tensor:
    """The signal plus the noise, both (samples,), the noise scaled so that the ratio of their powers is `snr` dB.

    A signal of zeros is returned as it is, and so is one to which noise of zeros is added.

    Example:
        >>> noisy = with_noise(torch.ones(4), np.array([1.0, -1.0, 1.0, -1.0]), 20.0)
        >>> [round(value, 3) for value in noisy.tolist()]
        [1.1, 0.9, 1.1, 0.9]
    """
    clean = signal.double().numpy()
    power, noise_power = np.mean(clean**2), np.mean(noise**2)
    if power == 0 or noise_power == 0:
        return signal.clone()
    scale = np.sqrt(power / noise_power * 10 ** (-snr / 10))
    return torch.from_numpy(clean + scale * noise).to(signal.dtype)


def random_order(count: int, rng: np.random.Generator) -> Iterator[int]:
    """The numbers below `count` in random order, each drawn when it is asked for."""
    seen: set[int] = set()
    while len(seen) < count:
        index = int(rng.integers(count))
        if index not in seen:
            seen.add(index)
            yield index
