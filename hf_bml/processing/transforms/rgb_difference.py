"""RGB difference: the next frame minus the frame, a cheap stand-in for motion (TSN, Wang et al. 2016)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .frames import Cropping
from .video_snippets import VideoSnippets


@dataclass(eq=False)
class RGBDifference(Cropping, VideoSnippets):
    """A video -> differences of neighbouring frames `(num_frames * new_length, 3, height, width)`, float32.

    Frames are neighbours at the video's own rate, also where `fps` reduces the choice of snippets, and are subtracted
    as intensities in [0, 1], before any normalisation: results lie in [-1, 1] / `std`. Both frames of a pair, and all
    pairs of a clip, get the same crop and flip.

    Usage: `processors: {difference: {type: rgb_difference, num_frames: 3, new_length: 5, size: 112}}`

    Args:
        num_frames, sampling, fps, new_length, short_side, decoder: see `VideoSnippets`; a snippet gives `new_length`
            differences, from `new_length + 1` consecutive frames.
        size, augment, crop_scale, crop_ratio, flip, evaluation: see `Cropping`.
        std: Differences are divided by it. Natural videos have small ones: about 0.05 makes them of order 1.

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

    std: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.std <= 0:
            raise ValueError(f"Expected std > 0, found {self.std}. Give one positive number.")

    @property
    def sizes(self) -> dict[str, int]:
        return {"num_channels": self.decoded_channels}

    def _finish(self, clip: Tensor, training: bool) -> Tensor:
        frames, _ = self.crop(clip, training)  # (snippets, new_length + 1, 3, height, width)
        return frames.to(torch.float32).div_(255 * self.std).diff(dim=1).flatten(0, 1)
