"""Video files -> a few normalised frames."""

from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2

from .frame_sampling import SAMPLINGS, frame_grid, sample_grid, snippets
from .frames import FrameTransform
from .media_file import MediaError
from .video import DECODERS, read_video


class VideoFrames:
    """A video -> `(num_frames * new_length, channels, height, width)`, float32, normalised.

    A value is anything `read_video` takes, or frames already decoded: a list of images, or an array or tensor with a
    leading frame axis, which count as one frame a second. Only the frames that are used are decoded.

    What does not depend on chance is computed once (`extract`) and cached: the chosen frames for "uniform" sampling,
    the frames of the grid where `fps` is given. Random sampling without `fps` decodes at every access.

    Args:
        num_frames: Frames (with `new_length` > 1: snippets) per clip.
        sampling: "uniform" (first to last, evenly), "random" (random times in training), or "segment" (TSN: a random
            frame of each segment in training, the centre in evaluation); see `frame_sampling.sample_grid`.
        fps: First reduce the clip to that many frames a second, as the paper's extraction at 1 fps does.
        new_length: Consecutive frames, at the video's own rate, from each chosen one on.
        short_side: Shrink frames to this short side before caching and augmentation; `None` keeps their size.
        decoder: "pyav" or "torchcodec", see `read_video`.
        size: Passed, with all further options, to `FrameTransform`. Crop and flip are the same for all frames of a
            clip.

    Raises:
        ValueError: An option is out of range.
        MediaError: A video cannot be used; see `read_video`.

    Example:
        >>> clip = torch.zeros(8, 3, 20, 30, dtype=torch.uint8)
        >>> VideoFrames(num_frames=3, size=16)([clip])[0].shape
        torch.Size([3, 3, 16, 16])
    """

    output_keys = None
    extra_length = 0  # frames beyond new_length that a snippet needs

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
        for name, value in (("num_frames", num_frames), ("new_length", new_length), ("short_side", short_side or 1)):
            if value < 1:
                raise ValueError(f"Expected {name} >= 1, found {value}. Raise {name}.")
        if sampling not in SAMPLINGS:
            raise ValueError(f"Expected sampling out of {list(SAMPLINGS)}, found {sampling!r}. Choose one of them.")
        if fps is not None and fps <= 0:
            raise ValueError(f"Expected fps > 0, found {fps}. Give frames per second, or None for all frames.")
        if decoder not in DECODERS:
            raise ValueError(f"Expected decoder out of {list(DECODERS)}, found {decoder!r}. Choose one of them.")
        self.num_frames = num_frames
        self.sampling = sampling
        self.fps = fps
        self.new_length = new_length
        self.short_side = short_side
        self.decoder = decoder
        self.image_transform = FrameTransform(
            size, num_channels, mean, std, augment, crop_scale, crop_ratio, flip, evaluation
        )

    @property
    def is_random(self) -> bool:
        """Whether training output depends on random draws."""
        return self.sampling != "uniform" or self.image_transform.is_random

    @property
    def has_extract(self) -> bool:
        """Whether `extract` saves decoding at each access."""
        return self.sampling == "uniform" or self.fps is not None

    def __call__(self, values: list[Any], training: bool = False) -> list[Tensor]:
        """Transform videos; `training` switches random sampling and augmentation on."""
        return [self._finish(self._read(value, training), training) for value in values]

    def extract(self, values: list[Any]) -> list[Tensor]:
        """The deterministic part, uint8: chosen snippets for "uniform" sampling, else all snippets of the grid."""
        sampled = self.sampling == "uniform"
        return [self._read(value, training=False, all_of_grid=not sampled).flatten(0, 1) for value in values]

    def finish(self, extracted: list[Tensor], training: bool = False) -> list[Tensor]:
        """From `extract`'s result to that of a call."""
        return [self._finish(self._sample_extracted(stored, training), training) for stored in extracted]

    def _sample_extracted(self, stored: Tensor, training: bool) -> Tensor:
        clip = stored.unflatten(0, (-1, self._stored_length))
        if self.sampling == "uniform":
            return clip
        times = torch.arange(len(clip), dtype=torch.float64) / self.fps
        return clip[sample_grid(times, 1 / self.fps, self.num_frames, self.sampling, training)]

    @property
    def _stored_length(self) -> int:
        """Length of the second axis of `_process`'s result."""
        return self.new_length

    def _read(self, value: Any, training: bool, all_of_grid: bool = False) -> Tensor:
        """Decode and process snippets: uint8 (snippets, length, channels, height, width)."""
        length = self.new_length + self.extra_length

        def select(timestamps: Tensor) -> Tensor:
            if len(timestamps) <= self.extra_length:
                raise MediaError(
                    f"Expected more than {self.extra_length} frames, found {len(timestamps)}. "
                    "Set a clip without motion to None."
                )
            starts, times, period = frame_grid(timestamps, self.fps, length)
            if not all_of_grid:
                starts = starts[sample_grid(times, period, self.num_frames, self.sampling, training)]
            return snippets(starts, length, len(timestamps))

        if is_frames(value):
            frames = self.image_transform.read(value)
            frames = frames[select(torch.arange(len(frames), dtype=torch.float64))]
            if frames.is_floating_point():
                frames = v2.functional.to_dtype(frames, torch.uint8, scale=True)
        else:
            frames, _ = read_video(value, select, self.decoder)
            if self.image_transform.num_channels == 1:
                frames = v2.functional.rgb_to_grayscale(frames)
        if self.short_side is not None and min(frames.shape[-2:]) > self.short_side:
            frames = v2.functional.resize(frames, [self.short_side], antialias=True)
        return self._process(frames.unflatten(0, (-1, length)))

    def _process(self, frames: Tensor) -> Tensor:
        """Snippets of frames, uint8 (snippets, length, channels, height, width) -> what is cached."""
        return frames

    def _finish(self, clip: Tensor, training: bool) -> Tensor:
        return self.image_transform.apply(clip.flatten(0, 1), training)


def is_frames(value: Any) -> bool:
    """Whether a value holds decoded frames: a list of images, or an array or tensor with a leading frame axis."""
    return isinstance(value, list | tuple) or (hasattr(value, "ndim") and value.ndim >= 3)
