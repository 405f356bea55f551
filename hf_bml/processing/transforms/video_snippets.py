"""What all transforms of videos share: choosing snippets of consecutive frames, reading and caching them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2

from ...ground.suggestion import check_name
from ..media.file import MediaError
from ..media.frame_sampling import SAMPLINGS, frame_grid, sample_grid, snippets
from ..media.image import read_clip
from ..media.video import check_decoder, read_video
from .base import Transform, check_at_least_one


@dataclass(eq=False)
class VideoSnippets(Transform):
    """Base of `VideoFrames`, `RGBDifference` and `OpticalFlow`.

    A value is anything `read_video` takes, or frames already decoded: a list of images, or an array or tensor with a
    leading frame axis, which count as one frame a second. Only the frames that are used are decoded.

    What does not depend on chance is computed once (`extract`) and cached: the chosen snippets for "uniform" sampling,
    the snippets of the grid where `fps` is given. Random sampling without `fps` decodes at every access.

    Args:
        num_frames: snippets per clip.
        sampling: "uniform" (first to last, evenly), "random" (random times in training), or "segment" (TSN: a random
            one in each segment in training, the centre in evaluation); see `frame_sampling.sample_grid`.
        fps: first reduce the clip to that many snippets a second, as the paper's extraction at 1 fps does.
        new_length: results per snippet, at consecutive frames of the video's own rate.
        short_side: shrink frames to this short side when they are read; `None` keeps their size.
        decoder: "pyav" or "torchcodec", see `read_video`.

    Attributes:
        decoded_channels: of the frames that are read, 3 (colour) or 1 (grey).

    Raises:
        ValueError: an option is out of range, or the decoder cannot be loaded.
    """

    signal = "image"
    reads_video = True
    extra_length = 0  # frames beyond new_length that a snippet needs

    decoded_channels = 3

    num_frames: int = 3
    sampling: str = "uniform"
    fps: float | None = None
    new_length: int = 1
    short_side: int | None = None
    decoder: str = "pyav"

    def __post_init__(self) -> None:
        super().__post_init__()
        side = 1 if self.short_side is None else self.short_side
        check_at_least_one(num_frames=self.num_frames, new_length=self.new_length, short_side=side)
        check_name("sampling", self.sampling, SAMPLINGS)
        if self.fps is not None and self.fps <= 0:
            raise ValueError(f"Expected fps > 0, found {self.fps}. Give frames per second, or None for all frames.")
        check_decoder(self.decoder)

    @property
    def is_random(self) -> bool:
        return self.sampling != "uniform" or super().is_random

    @property
    def reads_at_random(self) -> bool:
        return self.sampling != "uniform"

    @property
    def has_extract(self) -> bool:
        return self.sampling == "uniform" or self.fps is not None

    def read(self, value: Any) -> Tensor:
        """The chosen frames, uint8 (snippets, frames, channels, height, width)."""
        return self._snippets(value, self.sampling, training=False)

    def read_in_training(self, value: Any) -> Tensor:
        """Frames at random times where sampling is random."""
        return self._snippets(value, self.sampling, training=True)

    def from_signal(self, signal: Tensor, training: bool = False) -> Tensor:
        """The model's input; `training` switches augmentation on."""
        return self._finish(self._process(signal), training)

    def extract(self, values: list[Any]) -> list[Tensor]:
        """The deterministic part, uint8: chosen snippets for "uniform" sampling, else all snippets of the grid."""
        sampling = "uniform" if self.sampling == "uniform" else None
        return [self._process(self._snippets(value, sampling, training=False)) for value in values]

    def finish(self, extracted: list[Tensor], training: bool = False) -> list[Tensor]:
        return [self._finish(self._sample_extracted(stored, training), training) for stored in extracted]

    def _sample_extracted(self, stored: Tensor, training: bool) -> Tensor:
        if self.sampling == "uniform":
            return stored
        times = torch.arange(len(stored), dtype=torch.float64) / self.fps
        return stored[sample_grid(times, 1 / self.fps, self.num_frames, self.sampling, training)]

    def _select(self, timestamps: Tensor, sampling: str | None, training: bool, length: int) -> Tensor:
        """Indices of the frames of all snippets, int64 (snippets * length,); no sampling: of the whole grid."""
        starts, times, period = frame_grid(timestamps, self.fps, length)
        if sampling is not None:
            starts = starts[sample_grid(times, period, self.num_frames, sampling, training)]
        return snippets(starts, length, len(timestamps))

    def _snippets(self, value: Any, sampling: str | None, training: bool) -> Tensor:
        """Read: uint8, the first axis counts snippets."""
        length = self.new_length + self.extra_length

        def select(timestamps: Tensor) -> Tensor:
            if len(timestamps) <= self.extra_length:
                raise MediaError(
                    f"Expected more than {self.extra_length} frame, found {len(timestamps)}. "
                    "Set a clip without motion to None."
                )
            return self._select(timestamps, sampling, training, length)

        return self._shrink(self._frames(value, select)).unflatten(0, (-1, length))

    def _frames(self, value: Any, select: Any) -> Tensor:
        """Decode: uint8 (selected, channels, height, width)."""
        if is_decoded(value):
            frames = read_clip(value, self.decoded_channels)
            frames = frames[select(torch.arange(len(frames), dtype=torch.float64))]
            return v2.functional.to_dtype(frames, torch.uint8, scale=True)
        frames, _ = read_video(value, select, self.decoder)
        return v2.functional.rgb_to_grayscale(frames) if self.decoded_channels == 1 else frames

    def _shrink(self, frames: Tensor) -> Tensor:
        if self.short_side is None or min(frames.shape[-2:]) <= self.short_side:
            return frames
        return v2.functional.resize(frames, [self.short_side], antialias=True)

    def _process(self, clip: Tensor) -> Tensor:
        """Frames uint8 (snippets, length, channels, height, width) -> what is cached, one row per snippet."""
        return clip

    def _finish(self, clip: Tensor, training: bool) -> Tensor:
        """What is cached -> the model's input, augmented in training."""
        raise NotImplementedError(f"{type(self).__name__} is abstract: override `_finish`.")


def is_decoded(value: Any) -> bool:
    """Whether a value holds decoded frames: a list of images, or an array or tensor with a leading frame axis."""
    return isinstance(value, list | tuple) or (isinstance(value, np.ndarray | Tensor) and value.ndim >= 3)
