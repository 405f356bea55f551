"""Video files -> a few normalised frames."""

from __future__ import annotations

from torch import Tensor

from .frames import FrameTransform
from .video_snippets import VideoSnippets


class VideoFrames(VideoSnippets):
    """A video -> `(num_frames * new_length, channels, height, width)`, float32, normalised.

    Values, sampling and caching: see `VideoSnippets`, which has the first six options. All others are those of
    `FrameTransform`; crop and flip are the same for all frames of a clip.

    Args:
        num_frames: frames (with `new_length` > 1: snippets) per clip.
        sampling: "uniform", "random" or "segment".
        fps: first reduce the clip to that many frames a second.
        new_length: consecutive frames, at the video's own rate, from each chosen one on.
        short_side: shrink frames to this short side before caching and augmentation.
        decoder: "pyav" or "torchcodec".
        size: output height and width; this and all further options: see `FrameTransform`.

    Raises:
        ValueError: an option is out of range.
        MediaError: A video cannot be used; see `read_video`.

    Example:
        >>> import torch
        >>> clip = torch.zeros(8, 3, 20, 30, dtype=torch.uint8)
        >>> VideoFrames(num_frames=3, size=16)([clip])[0].shape
        torch.Size([3, 3, 16, 16])
    """

    def __init__(
        self,
        num_frames: int = 3,
        sampling: str = "uniform",
        fps: float | None = None,
        new_length: int = 1,
        short_side: int | None = None,
        decoder: str = "pyav",
        size: int | tuple[int, int] | list[int] = 224,
        num_channels: int = 3,
        mean: list[float] | None = None,
        std: list[float] | None = None,
        augment: str = "none",
        crop_scale: tuple[float, float] | list[float] = (0.08, 1.0),
        crop_ratio: tuple[float, float] | list[float] = (3 / 4, 4 / 3),
        flip: float = 0.5,
        evaluation: str = "resize",
    ):
        self.image_transform = FrameTransform(
            size, num_channels, mean, std, augment, crop_scale, crop_ratio, flip, evaluation
        )
        augments = self.image_transform.is_random
        super().__init__(num_frames, sampling, fps, new_length, short_side, decoder, num_channels, augments)

    def _finish(self, clip: Tensor, training: bool) -> Tensor:
        return self.image_transform.from_signal(clip.flatten(0, 1), training)
