"""RGB difference: the next frame minus the frame, a cheap stand-in for motion (TSN, Wang et al. 2016)."""

from __future__ import annotations

import torch
from torch import Tensor

from .frames import ImageCrop
from .video_snippets import VideoSnippets


class RGBDifference(VideoSnippets):
    """A video -> differences of neighbouring frames `(num_frames * new_length, 3, height, width)`, float32.

    Frames are neighbours at the video's own rate, also where `fps` reduces the choice of snippets, and are subtracted
    as intensities in [0, 1], before any normalisation: results lie in [-1, 1] / `std`. Both frames of a pair, and all
    pairs of a clip, get the same crop and flip.

    Args:
        num_frames: snippets per clip; this and the next five options: see `VideoSnippets`.
        sampling: "uniform", "random" or "segment".
        fps: first reduce the clip to that many snippets a second.
        new_length: differences per snippet, from `new_length + 1` consecutive frames.
        short_side: shrink frames to this short side before caching and augmentation.
        decoder: "pyav" or "torchcodec".
        std: Differences are divided by it. Natural videos have small ones: about 0.05 makes them of order 1.
        size: Output height and width; this and all further options: see `ImageCrop`.

    Raises:
        ValueError: an option is out of range.
        MediaError: A video cannot be used, or has a single frame.

    Example:
        >>> clip = torch.arange(0, 80, 10, dtype=torch.uint8)[:, None, None, None].expand(8, 3, 20, 30)
        >>> difference = RGBDifference(num_frames=3, size=16)([clip])[0]
        >>> difference.shape, round(float(difference.max()) * 255)
        (torch.Size([3, 3, 16, 16]), 10)
    """

    extra_length = 1
    compares_frames = True

    def __init__(
        self,
        num_frames: int = 3,
        sampling: str = "uniform",
        fps: float | None = None,
        new_length: int = 1,
        short_side: int | None = None,
        decoder: str = "pyav",
        std: float = 1.0,
        size: int | tuple[int, int] | list[int] = 224,
        augment: str = "none",
        crop_scale: tuple[float, float] | list[float] = (0.08, 1.0),
        crop_ratio: tuple[float, float] | list[float] = (3 / 4, 4 / 3),
        flip: float = 0.5,
        evaluation: str = "resize",
    ):
        if std <= 0:
            raise ValueError(f"Expected std > 0, found {std}. Give one positive number.")
        self.std = std
        self.crop = ImageCrop(size, augment, crop_scale, crop_ratio, flip, evaluation)
        super().__init__(num_frames, sampling, fps, new_length, short_side, decoder, 3, self.crop.is_random)

    def _finish(self, clip: Tensor, training: bool) -> Tensor:
        frames, _ = self.crop(clip, training)  # (snippets, new_length + 1, 3, height, width)
        return frames.to(torch.float32).div_(255 * self.std).diff(dim=1).flatten(0, 1)
