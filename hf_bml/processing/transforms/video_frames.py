"""Video files -> a few normalised frames."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .frames import Normalizing
from .video_snippets import VideoSnippets


@dataclass(eq=False)
class VideoFrames(Normalizing, VideoSnippets):
    """A video -> `(num_frames * new_length, channels, height, width)`, float32, normalised.

    Values, sampling and caching: see `VideoSnippets`. Crop and flip are the same for all frames of a clip.

    Usage: `processors: {visual: {type: video, num_frames: 4, size: 112}}`

    Args:
        num_frames, sampling, fps, new_length, short_side, decoder: see `VideoSnippets`.
        size, augment, crop_scale, crop_ratio, flip, evaluation: see `Cropping`.
        num_channels, mean, std: see `Normalizing`.

    Raises:
        ValueError: an option is out of range.
        MediaError: A video cannot be used; see `read_video`.

    Example:
        >>> import torch
        >>> clip = torch.zeros(8, 3, 20, 30, dtype=torch.uint8)
        >>> VideoFrames(num_frames=3, size=16)([clip])[0].shape
        torch.Size([3, 3, 16, 16])
    """

    @property
    def decoded_channels(self) -> int:
        """As many as the result has."""
        return self.num_channels

    def _finish(self, clip: Tensor, training: bool) -> Tensor:
        return self.normalized(clip.flatten(0, 1), training)
