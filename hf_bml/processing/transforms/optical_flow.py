"""Optical flow: horizontal and vertical displacements (u, v) from a frame to the next.

Flow is kept the way TSN's jpg files keep it (Wang et al. 2016): displacements in pixels per frame, bounded to +-20,
are mapped linearly to [0, 255] and rounded; `/ 255 - 0.5` then gives the model's input in [-0.5, 0.5], 0.025 a
pixel. Pixels are those of the video after `short_side`; resizing and cropping do not rescale displacements. A
horizontal flip negates u.

Computing flow needs OpenCV (`pip install hf_bml[flow]`); reading the released u/v jpg folders does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...ground.suggestion import check_name
from ..media.file import MediaError
from ..media.image import read_clip
from .frames import Cropping
from .video_snippets import VideoSnippets

METHODS = ("dis", "farneback")
FARNEBACK = {
    "pyr_scale": 0.5,
    "levels": 3,
    "winsize": 15,
    "iterations": 3,
    "poly_n": 5,
    "poly_sigma": 1.2,
    "flags": 0,
}


def optical_flow(frames: Tensor, method: str = "dis") -> Tensor:
    """Dense flow from each frame to the next, by OpenCV.

    Args:
        frames: grey, uint8 (frames, height, width), frames >= 2.
        method: "dis" (dense inverse search, Kroeger et al. 2016, medium preset) or "farneback" (2003).

    Returns:
        float32 (frames - 1, 2, height, width): u, positive to the right, and v, positive downwards, in pixels.

    Raises:
        ValueError: unknown method, or OpenCV is missing.
        MediaError: OpenCV cannot handle the frames; they are too small, for instance.
    """
    cv2 = _opencv()
    check_name("method", method, METHODS)
    images = list(frames.numpy())
    try:
        if method == "dis":
            engine = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
            flows = [engine.calc(first, second, None) for first, second in pairwise(images)]
        else:
            flows = [
                cv2.calcOpticalFlowFarneback(first, second, None, **FARNEBACK) for first, second in pairwise(images)
            ]
    except cv2.error as error:
        raise MediaError(
            f"Expected frames that OpenCV can follow, found size {tuple(frames.shape[1:])}: {error.err}. "
            "Use larger frames."
        ) from error
    return torch.from_numpy(np.stack(flows)).permute(0, 3, 1, 2).contiguous()


def encode_flow(flow: Tensor, bound: float = 20.0) -> Tensor:
    """Displacements in pixels -> uint8: -bound and less is 0, +bound and more is 255."""
    return ((flow.clamp(-bound, bound) + bound) * (255 / (2 * bound))).round().to(torch.uint8)


@dataclass(eq=False)
class OpticalFlow(Cropping, VideoSnippets):
    """A video -> optical flow `(num_frames, 2 * new_length, height, width)`, float32 in [-0.5, 0.5].

    The channels are u, v of the first pair of frames, then of the next. Frames are neighbours at the video's own rate,
    also where `fps` reduces the choice of snippets. A value is anything `VideoSnippets` takes, or flow in the released
    form: `{"u": folder, "v": folder}` with files `frame000001.jpg`, ..., or `{"u": images, "v": images}`.

    Usage: `processors: {flow: {type: optical_flow, num_frames: 3, new_length: 5, size: 112}}`

    Args:
        num_frames, sampling, fps, new_length, short_side, decoder: see `VideoSnippets`. A snippet gives `new_length`
            flow fields, stacked as channels (TSN: 5); frames are shrunk before flow is computed. Flow takes time:
            without `fps`, random sampling computes it at every access.
        size, augment, crop_scale, crop_ratio, flip, evaluation: see `Cropping`. A flip negates u.
        method: "dis" or "farneback".
        bound: Displacements are bounded to +-bound pixels.
        image_fps: Rate of flow in the released form, images a second: that of the video, where `fps` is given.

    Raises:
        ValueError: an option is out of range, or OpenCV is needed and missing.
        MediaError: A video cannot be used, or has a single frame; u and v differ in number or size.
    """

    extra_length = 1
    compares_frames = True

    decoded_channels = 1

    method: str = "dis"
    bound: float = 20.0
    image_fps: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_name("method", self.method, METHODS)
        if self.bound <= 0:
            raise ValueError(f"Expected bound > 0, found {self.bound}. Give pixels, 20 as in TSN.")
        if self.image_fps <= 0:
            raise ValueError(
                f"Expected image_fps > 0, found {self.image_fps}. Give the rate of the video, 25 for UCF-101."
            )

    @property
    def sizes(self) -> dict[str, int]:
        return {"num_channels": 2 * self.new_length}

    def _snippets(self, value: Any, sampling: str | None, training: bool) -> Tensor:
        """Frames as those of other videos; of the released form, fields (snippets, 2 * new_length, height, width)."""
        if not isinstance(value, dict) or not {"u", "v"} <= set(value):
            return super()._snippets(value, sampling, training)
        components = {name: _images(value[name]) for name in ("u", "v")}
        counts = {name: len(images) for name, images in components.items()}
        if counts["u"] != counts["v"] or not counts["u"]:
            raise MediaError(
                f"{value['u']!s:.200}: expected as many images of u as of v, found {counts}. Complete them."
            )
        timestamps = torch.arange(counts["u"], dtype=torch.float64) / self.image_fps
        chosen = self._select(timestamps, sampling, training, self.new_length).tolist()
        u, v = (read_clip([images[index] for index in chosen], 1) for images in components.values())
        if u.shape != v.shape:
            raise MediaError(
                f"{value['u']!s:.200}: expected u and v of one size, found {tuple(u.shape[2:])} and "
                f"{tuple(v.shape[2:])}. Extract the flow again."
            )
        fields = self._shrink(torch.cat([u, v], dim=1))  # (snippets * new_length, 2, height, width)
        return fields.unflatten(0, (-1, self.new_length)).flatten(1, 2)

    def _process(self, clip: Tensor) -> Tensor:
        if clip.ndim == 4:  # flow in the released form
            return clip
        flows = [encode_flow(optical_flow(frames[:, 0], self.method), self.bound) for frames in clip]
        return torch.stack(flows).flatten(1, 2)  # (snippets, 2 * new_length, height, width)

    def _finish(self, clip: Tensor, training: bool) -> Tensor:
        fields, flipped = self.crop(clip, training)
        if flipped:
            fields = fields.clone()
            fields[:, 0::2] = 255 - fields[:, 0::2]
        return fields.to(torch.float32).div_(255).sub_(0.5)


def _images(component: Any) -> list[Any]:
    """Images of one component in order: the files of a folder by number, or the list itself."""
    if not isinstance(component, str | Path):
        return list(component)
    paths = sorted(Path(component).glob("frame*.jpg"), key=_number)
    if not paths:
        raise MediaError(f"{component}: expected a folder with frame000001.jpg, ..., found none. Correct the path.")
    return paths


def _number(path: Path) -> tuple[int, str]:
    """Order of files whose numbers may lack zeros in front."""
    return int("".join(filter(str.isdecimal, path.stem)) or 0), path.name


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise ValueError(
            "Optical flow needs OpenCV, found no module cv2. Install it with `pip install hf_bml[flow]` "
            "(opencv-python-headless), or use the released u/v images."
        ) from error
    return cv2
