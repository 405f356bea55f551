"""Corruptions of an image, or of all frames of a clip alike, (..., channels, height, width).

Intensities are in [0, 1]; uint8 in gives uint8 out, as a camera would, and floats stay floats. They act on what is
read, before it is resized: sizes are relative to that.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .base import Corruption, Surroundings, number


@dataclass(frozen=True)
class GaussianNoise(Corruption):
    """Independent Gaussian noise on every pixel and channel; what leaves [0, 1] is clipped.

    Args:
        sigma: standard deviation of the noise before clipping, of intensities in [0, 1].
        per_frame: whether each frame of a clip has noise of its own. Else all have the same, which cancels between
            frames; for transforms that compare frames (RGB difference, flow) the default severities have it true.

    Raises:
        ValueError: `sigma` is negative, or `per_frame` is not true or false.
    """

    name, signal = "gaussian_noise", "image"
    severity, severities = "sigma", (0.1, 0.3, 0.5)

    sigma: float = number(0.3, 0)
    per_frame: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.per_frame, bool):
            raise ValueError(f"{self.name}: expected per_frame true or false, found {self.per_frame!r}. Correct it.")

    def __call__(self, signal: Tensor, rng: np.random.Generator, around: Surroundings) -> Tensor:
        """The noisy image or clip."""
        shape = signal.shape if self.per_frame else signal.shape[-3:]
        noise = torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))
        return like(signal, intensities(signal) + self.sigma * noise)


@dataclass(frozen=True)
class Blur(Corruption):
    """A Gaussian blur, mirrored at the borders; nothing is drawn.

    Args:
        fraction: standard deviation of the Gaussian, as a fraction of the image's short side.

    Raises:
        ValueError: `fraction` is not in [0, 1].
    """

    name, signal = "blur", "image"
    severity, severities = "fraction", (0.02, 0.04, 0.08)

    fraction: float = number(0.04, 0, 1)

    def __call__(self, signal: Tensor, rng: np.random.Generator, around: Surroundings) -> Tensor:
        """The blurred image or clip."""
        from scipy.ndimage import gaussian_filter  # slow to import

        sigma = self.fraction * min(signal.shape[-2:])
        blurred = gaussian_filter(intensities(signal).numpy(), sigma, axes=(-2, -1), mode="reflect", truncate=3.0)
        return like(signal, torch.from_numpy(blurred))


@dataclass(frozen=True)
class Jpeg(Corruption):
    """Pillow's JPEG compression of every frame; nothing is drawn.

    Three channels are compressed as colour, any other number as that many grey images.

    Args:
        quality: of libjpeg, 1 (worst) to 95.

    Raises:
        ValueError: `quality` is not a whole number in [1, 95].
    """

    name, signal = "jpeg", "image"
    severity, severities = "quality", (25, 15, 7)

    quality: int = number(15, 1, 95, whole=True)

    def __call__(self, signal: Tensor, rng: np.random.Generator, around: Surroundings) -> Tensor:
        """The image or clip as it is after compression."""
        levels = (intensities(signal) * 255).round().to(torch.uint8)
        if signal.shape[-3] == 3:
            images = levels.movedim(-3, -1)  # (..., height, width, 3)
            frames = [self._compressed(image) for image in images.reshape(-1, *images.shape[-3:]).numpy()]
            found = torch.from_numpy(np.stack(frames)).reshape(images.shape).movedim(-1, -3)
        else:
            frames = [self._compressed(image) for image in levels.reshape(-1, *levels.shape[-2:]).numpy()]
            found = torch.from_numpy(np.stack(frames)).reshape(levels.shape)
        return like(signal, found / 255).contiguous()

    def _compressed(self, image: np.ndarray) -> np.ndarray:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, format="JPEG", quality=int(self.quality))
        return np.asarray(Image.open(buffer))


def intensities(signal: Tensor) -> Tensor:
    """As float32 in [0, 1]."""
    return signal / 255 if signal.dtype == torch.uint8 else signal.float()


def like(signal: Tensor, values: Tensor) -> Tensor:
    """Intensities, clipped to [0, 1], in the dtype of the signal."""
    values = values.clamp(0, 1)
    return (values * 255).round().to(torch.uint8) if signal.dtype == torch.uint8 else values.to(signal.dtype)
