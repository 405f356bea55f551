"""Images and clips of frames -> normalised tensors.

Training augmentation is that of the OGM-GE code (random resized crop and horizontal flip), with one difference: the
crop and the flip are drawn once per clip, so all frames of a clip show the same region. Evaluation resizes to `size`,
or cuts the centre.
"""

from __future__ import annotations

from typing import Any

import torch
from PIL import ImageColor
from torch import Tensor
from torchvision.transforms import v2

from ..media.image import PIL_MODES, read_clip
from .base import Transform

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class ImageCrop:
    """Crop, flip and resize `(..., channels, height, width)`; one draw for everything in the leading axes.

    Args:
        size: Output height and width: one number for a square, or (height, width).
        augment: "none", or "crop_flip": RandomResizedCrop and horizontal flip in training, from the global torch RNG.
        crop_scale: Range of the crop's area as a fraction of the image's.
        crop_ratio: Range of the crop's width / height.
        flip: Probability of a horizontal flip.
        evaluation: "resize", or "center_crop": cut the largest centred region with the shape of `size`, then resize.

    Raises:
        ValueError: Unknown `augment` or `evaluation`.
    """

    def __init__(
        self,
        size: int | tuple[int, int] | list[int],
        augment: str = "none",
        crop_scale: tuple[float, float] | list[float] = (0.08, 1.0),
        crop_ratio: tuple[float, float] | list[float] = (3 / 4, 4 / 3),
        flip: float = 0.5,
        evaluation: str = "resize",
    ):
        if augment not in ("none", "crop_flip"):
            raise ValueError(f"Expected augment 'none' or 'crop_flip', found {augment!r}. Choose one of the two.")
        if evaluation not in ("resize", "center_crop"):
            raise ValueError(
                f"Expected evaluation 'resize' or 'center_crop', found {evaluation!r}. Choose one of them."
            )
        self.size = [size, size] if isinstance(size, int) else list(size)
        self.is_random = augment != "none"
        self.flip = flip
        self.center_crop = evaluation == "center_crop"
        self._resize = v2.Resize(self.size, antialias=True)
        self._random_crop = v2.RandomResizedCrop(
            self.size, scale=tuple(crop_scale), ratio=tuple(crop_ratio), antialias=True
        )

    def __call__(self, image: Tensor, training: bool = False) -> tuple[Tensor, bool]:
        """The image in the output size, dtype unchanged, and whether it was flipped."""
        if training and self.is_random:
            image = self._random_crop(image)
            flipped = bool(torch.rand(1) < self.flip)
            return (image.flip(-1) if flipped else image), flipped
        if self.center_crop:
            image = _cut_to_shape(image, *self.size)
        return self._resize(image), False


def _cut_to_shape(image: Tensor, height: int, width: int) -> Tensor:
    rows, columns = image.shape[-2:]
    scale = min(rows / height, columns / width)
    return v2.functional.center_crop(image, [max(1, round(height * scale)), max(1, round(width * scale))])


class FrameTransform(Transform):
    """An image -> `(channels, height, width)`; a list of images -> `(frames, channels, height, width)`. float32.

    A value is a PIL image, the path of an image file, an undecoded image `{"bytes", "path"}`, a uint8 array or nested
    list `(height, width)` or `(height, width, channels)`, a tensor `(channels, height, width)`, a list of these (a
    clip), or an array or tensor with a leading frame axis. Float arrays and tensors are intensities in [0, 1]. Images
    are turned upright as their EXIF orientation says, and drawn on `background` where they are transparent. 16 bits of
    grey keep their precision; of 16 bits of colour, or beside an alpha channel, the upper 8 are read. Of an animation,
    the first frame is read; "video" reads all frames of a GIF.

    Args:
        size: output height and width: one number for a square, or (height, width).
        num_channels: 3 (colour) or 1 (grey). PIL images are converted; arrays only from colour to grey.
        mean: one value per channel, in intensity units [0, 1]. Default: ImageNet for 3 channels, 0.5 for 1.
        std: one positive value per channel. Default: ImageNet for 3 channels, 0.5 for 1.
        augment: "none", or "crop_flip": RandomResizedCrop and horizontal flip in training, from the global torch RNG.
        crop_scale: range of the crop's area as a fraction of the image's, for "crop_flip".
        crop_ratio: range of the crop's width / height, for "crop_flip".
        flip: probability of a horizontal flip, for "crop_flip". 0 for data whose orientation matters (digits, text).
        evaluation: "resize" to `size`, or "center_crop": scale until `size` is covered, then cut the centre.
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

    signal = "image"

    def __init__(
        self,
        size: int | tuple[int, int] | list[int] = 224,
        num_channels: int = 3,
        mean: list[float] | None = None,
        std: list[float] | None = None,
        augment: str = "none",
        crop_scale: tuple[float, float] | list[float] = (0.08, 1.0),
        crop_ratio: tuple[float, float] | list[float] = (3 / 4, 4 / 3),
        flip: float = 0.5,
        evaluation: str = "resize",
        background: str = "white",
    ):
        try:
            ImageColor.getrgb(background)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"Expected background to be a colour such as 'white' or '#ffffff', found {background!r}. Give one."
            ) from error
        if num_channels not in PIL_MODES:
            raise ValueError(f"Expected num_channels 1 or 3, found {num_channels}. Choose grey (1) or colour (3).")
        mean = list(mean or (IMAGENET_MEAN if num_channels == 3 else (0.5,)))
        std = list(std or (IMAGENET_STD if num_channels == 3 else (0.5,)))
        if len(mean) != num_channels or len(std) != num_channels or min(std) <= 0:
            raise ValueError(
                f"Expected {num_channels} values of mean and of positive std, found mean={mean}, std={std}. "
                "Give one value per channel."
            )
        self.num_channels = num_channels
        self.background = background
        self.crop = ImageCrop(size, augment, crop_scale, crop_ratio, flip, evaluation)
        self._normalize = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])

    @property
    def is_random(self) -> bool:
        return self.crop.is_random

    @property
    def sizes(self) -> dict[str, int]:
        return {"num_channels": self.num_channels}

    def from_signal(self, signal: Tensor, training: bool = False) -> Tensor:
        """Crop or resize and normalise what `read` returned; `training` switches the augmentation on."""
        image, _ = self.crop(signal, training)
        return self._normalize(image)

    def read(self, value: Any) -> Tensor:
        """An image `(channels, height, width)` or a clip `(frames, channels, height, width)`, before scaling."""
        return read_clip(value, self.num_channels, self.background)
