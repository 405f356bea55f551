"""Images and clips of frames -> normalised tensors.

Training augmentation is that of the OGM-GE code (random resized crop and horizontal flip), with one difference: the
crop and the flip are drawn once per clip, so all frames of a clip show the same region. Evaluation resizes to `size`,
or cuts the centre.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import ImageColor
from torch import Tensor
from torchvision.transforms import v2

from ...ground.suggestion import check_name
from ..media.image import PIL_MODES, read_clip
from .base import Transform

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(eq=False)
class Cropping(Transform):
    """What all transforms of images share: they crop, flip and resize, with one draw for all images of a value.

    Args:
        size: output height and width: one number for a square, or (height, width).
        augment: "none", or "crop_flip": RandomResizedCrop and horizontal flip in training, from the global torch RNG.
        crop_scale: range of the crop's area as a fraction of the image's, for "crop_flip".
        crop_ratio: range of the crop's width / height, for "crop_flip".
        flip: probability of a horizontal flip, for "crop_flip". 0 for data whose orientation matters (digits, text).
        evaluation: "resize" to `size`, or "center_crop": scale until `size` is covered, then cut the centre.

    Raises:
        ValueError: unknown `augment` or `evaluation`.
    """

    signal = "image"

    size: int | Sequence[int] = 224
    augment: str = "none"
    crop_scale: Sequence[float] = (0.08, 1.0)
    crop_ratio: Sequence[float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    evaluation: str = "resize"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_name("augment", self.augment, ("none", "crop_flip"))
        check_name("evaluation", self.evaluation, ("resize", "center_crop"))
        self.size = [self.size, self.size] if isinstance(self.size, int) else list(self.size)
        self._resize = v2.Resize(self.size, antialias=True)
        self._random_crop = v2.RandomResizedCrop(
            self.size, scale=tuple(self.crop_scale), ratio=tuple(self.crop_ratio), antialias=True
        )

    @property
    def is_random(self) -> bool:
        return self.augment != "none" or super().is_random

    def crop(self, image: Tensor, training: bool = False) -> tuple[Tensor, bool]:
        """`(..., channels, height, width)` in the output size, dtype unchanged, and whether it was flipped."""
        if training and self.augment != "none":
            image = self._random_crop(image)
            flipped = bool(torch.rand(1) < self.flip)
            return (image.flip(-1) if flipped else image), flipped
        if self.evaluation == "center_crop":
            image = _cut_to_shape(image, *self.size)
        return self._resize(image), False


def _cut_to_shape(image: Tensor, height: int, width: int) -> Tensor:
    rows, columns = image.shape[-2:]
    scale = min(rows / height, columns / width)
    return v2.functional.center_crop(image, [max(1, round(height * scale)), max(1, round(width * scale))])


@dataclass(eq=False)
class Normalizing(Cropping):
    """`Cropping`, then floats with about mean 0 and standard deviation 1.

    Args:
        num_channels: 3 (colour) or 1 (grey). PIL images are converted; arrays only from colour to grey.
        mean: one value per channel, in intensity units [0, 1]. Default: ImageNet for 3 channels, 0.5 for 1.
        std: one positive value per channel. Default: ImageNet for 3 channels, 0.5 for 1.

    Raises:
        ValueError: an option is out of range.
    """

    of_the_encoder = ("size", "mean", "std")

    num_channels: int = 3
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        channels = self.num_channels
        if channels not in PIL_MODES:
            raise ValueError(f"Expected num_channels 1 or 3, found {channels}. Choose grey (1) or colour (3).")
        mean = list(self.mean or (IMAGENET_MEAN if channels == 3 else (0.5,)))
        std = list(self.std or (IMAGENET_STD if channels == 3 else (0.5,)))
        if len(mean) != channels or len(std) != channels or min(std) <= 0:
            raise ValueError(
                f"Expected {channels} values of mean and of positive std, found mean={mean}, std={std}. "
                "Give one value per channel."
            )
        self._normalize = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])

    @property
    def sizes(self) -> dict[str, int]:
        return {"num_channels": self.num_channels}

    def normalized(self, images: Tensor, training: bool = False) -> Tensor:
        """`(..., channels, height, width)` cropped or resized, float32; `training` switches the augmentation on."""
        image, _ = self.crop(images, training)
        return self._normalize(image)


@dataclass(eq=False)
class FrameTransform(Normalizing):
    """An image -> `(channels, height, width)`; a list of images -> `(frames, channels, height, width)`. float32.

    A value is a PIL image, the path of an image file, an undecoded image `{"bytes", "path"}`, a uint8 array or nested
    list `(height, width)` or `(height, width, channels)`, a tensor `(channels, height, width)`, a list of these (a
    clip), or an array or tensor with a leading frame axis. Float arrays and tensors are intensities in [0, 1]. Images
    are turned upright as their EXIF orientation says, and drawn on `background` where they are transparent. 16 bits of
    grey keep their precision; of 16 bits of colour, or beside an alpha channel, the upper 8 are read. Of an animation,
    the first frame is read; "video" reads all frames of a GIF.

    Usage: `processors: {visual: {type: frames, size: 112, augment: crop_flip}}`

    Args:
        size, augment, crop_scale, crop_ratio, flip, evaluation: see `Cropping`.
        num_channels, mean, std: see `Normalizing`.
        background: colour behind transparent images: a name such as "black", or "#rrggbb". White shows the usual dark
            drawings; give a dark one for light drawings.

    Raises:
        ValueError: an option is out of range; an image has the wrong number of channels, is not finite or has
            floats outside [0, 1]; frames of a clip differ in size.
        MediaError: an image file is missing, empty or damaged; the message names it.

    Example:
        >>> from PIL import Image
        >>> transform = FrameTransform(size=28, num_channels=1)
        >>> transform([Image.new("L", (40, 30)), [Image.new("L", (40, 30))] * 3])[1].shape
        torch.Size([3, 1, 28, 28])
    """

    background: str = "white"

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            ImageColor.getrgb(self.background)
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError(
                f"Expected background to be a colour such as 'white' or '#ffffff', found {self.background!r}. Give "
                "one."
            ) from error

    def from_signal(self, signal: Tensor, training: bool = False) -> Tensor:
        """Crop or resize and normalise what `read` returned; `training` switches the augmentation on."""
        return self.normalized(signal, training)

    def read(self, value: Any) -> Tensor:
        """An image `(channels, height, width)` or a clip `(frames, channels, height, width)`, before scaling."""
        return read_clip(value, self.num_channels, self.background)
