"""Images and clips of frames -> normalised tensors.

Training augmentation is that of the OGM-GE code (random resized crop and horizontal flip), with one difference: the
crop and the flip are drawn once per clip, so all frames of a clip show the same region. Evaluation resizes to `size`,
or cuts the centre.
"""

import io
from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageColor, ImageOps
from torch import Tensor
from torchvision.transforms import v2

from ..media.file import MediaError, media_file, reading
from ..media.image_crop import ImageCrop

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
TOLERANCE = 1e-3  # of rounding, beyond [0, 1]
PIL_MODES = {1: "L", 3: "RGB"}
FULL_SCALE = 65535  # of 16 bits
# Pillow's other formats run further programs (EPS), or are recognised by a byte or two (TGA).
IMAGE_FORMATS = (
    *("PNG", "JPEG", "GIF", "BMP", "DIB", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF", "ICO"),
    *("SGI", "PCX", "PSD", "QOI"),
)


class FrameTransform:
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

    output_keys = None
    zeros = None  # an even picture in the colour `mean`

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
        """Whether training output depends on random draws."""
        return self.crop.is_random

    def __call__(self, values: list[Any], training: bool = False) -> list[Tensor]:
        """Transform images or clips; `training` switches the augmentation on."""
        return [self.apply(self.read(value), training) for value in values]

    def apply(self, image: Tensor, training: bool = False) -> Tensor:
        """Crop or resize and normalise what `read` returned."""
        image, _ = self.crop(image, training)
        return self._normalize(image)

    def read(self, value: Any) -> Tensor:
        """An image `(channels, height, width)` or a clip `(frames, channels, height, width)`, before scaling."""
        return read_clip(value, self.num_channels, self.background)


def read_clip(value: Any, num_channels: int, background: str = "white") -> Tensor:
    """An image as `read_image` reads it, or a list, array or tensor of images with a leading frame axis.

    Returns:
        (num_channels, height, width) or (frames, num_channels, height, width), dtype unchanged.

    Raises:
        ValueError: as `read_image`; or the frames differ in size.
    """
    if isinstance(value, list | tuple) and len(value) and not _is_nested_number(value):
        frames = [read_image(frame, num_channels, background) for frame in value]
        shapes = sorted({tuple(frame.shape) for frame in frames})
        if len(shapes) > 1:
            raise ValueError(
                f"Expected all frames of a clip to have one shape, found {shapes}. Resize the frames beforehand."
            )
        if len({frame.is_floating_point() for frame in frames}) > 1:
            raise ValueError(
                "Expected all frames of a clip to be of 8 bits a channel, or none, found both. Convert the frames."
            )
        return torch.stack(frames)
    if isinstance(value, list | tuple):
        value = np.asarray(value)
        if np.issubdtype(value.dtype, np.integer) and value.min() >= 0 and value.max() <= 255:
            value = value.astype(np.uint8)
    if isinstance(value, np.ndarray | Tensor) and value.ndim == 4:
        return torch.stack([read_image(frame, num_channels) for frame in value])
    return read_image(value, num_channels, background)


def read_image(image: Any, num_channels: int, background: str = "white") -> Tensor:
    """One image as a tensor of shape (num_channels, height, width), dtype unchanged; 16 bits become floats in [0, 1].

    Args:
        image: see `FrameTransform`.
        num_channels: 3 (colour) or 1 (grey).
        background: colour behind transparent pixels of a file or PIL image.

    Raises:
        ValueError: an array or tensor has another number of channels, or holds NaN, infinity or floats outside [0, 1].
        MediaError: an image file cannot be read, or the full scale of its pixels is unknown.
    """
    source = media_file(image, "image")
    if source is not None:
        image = _read_file(*source, num_channels, background)
    elif isinstance(image, Image.Image):
        image = pixels(image, num_channels, background)
    if isinstance(image, np.ndarray):
        image = torch.from_numpy(np.array(image[..., None] if image.ndim == 2 else image))
        image = image.permute(2, 0, 1) if image.ndim == 3 else image
    elif isinstance(image, Tensor) and image.ndim == 2:
        image = image.unsqueeze(0)
    if not isinstance(image, Tensor) or image.ndim != 3 or 0 in image.shape:
        found = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
        raise ValueError(
            "Expected a PIL image, an array (height, width, channels) or a tensor (channels, height, width), "
            f"found {found}. Convert the image, or set it to None if it is absent."
        )
    if image.shape[0] == 3 and num_channels == 1 and (image.dtype == torch.uint8 or image.is_floating_point()):
        image = v2.functional.rgb_to_grayscale(image)
    if image.shape[0] != num_channels:
        raise ValueError(
            f"Expected {num_channels} channels, found {image.shape[0]} in an image of shape (channels, height, width) "
            f"= {tuple(image.shape)}. Set num_channels or convert the images; arrays are (height, width, channels)."
        )
    if image.dtype != torch.uint8 and not image.is_floating_point():
        raise ValueError(
            f"Expected uint8 or float intensities, found {image.dtype}. "
            "Convert to uint8 (0-255) or to floats in [0, 1]."
        )
    if image.is_floating_point():
        if not torch.isfinite(image).all():
            raise ValueError(
                "Expected finite intensities, found NaN or infinity. Repair the image, or set it to None."
            )
        lowest, highest = float(image.min()), float(image.max())
        if lowest < -TOLERANCE or highest > 1 + TOLERANCE:
            raise ValueError(
                f"Expected float intensities in [0, 1], found {lowest:.6g} to {highest:.6g}. Divide by 255, or pass "
                "uint8."
            )
        image = image.clamp(0, 1)
    return image


def pixels(image: Image.Image, num_channels: int, background: str = "white") -> np.ndarray:
    """The upright image in grey or colour: uint8 (height, width[, 3]), or of 16 bits, float32 in [0, 1].

    Transparent pixels show the background.

    Raises:
        MediaError: pixels of 32 bits, whose full scale is unknown.
    """
    # Pillow clips more than 8 bits instead of scaling them. Its "I" is 32 bits, and 16 bits of some files.
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16") or (upright.mode == "I" and image.format in ("PNG", "PPM")):
        levels = np.asarray(upright)
        grey = levels.astype(np.float32) / FULL_SCALE
        if "transparency" in upright.info:  # the one level that is transparent
            grey[levels == upright.info["transparency"]] = ImageColor.getcolor(background, "L") / 255
        return np.repeat(grey[..., None], num_channels, axis=2)
    if upright.mode in ("I", "F"):
        raise MediaError(
            f"expected 8 or 16 bits a channel, found Pillow's mode {upright.mode!r} of 32 bits without a known full "
            "scale. Convert the image to 16 bits, or pass a float array in [0, 1]."
        )
    return np.array(on_background(upright, background).convert(PIL_MODES[num_channels]))


def on_background(image: Image.Image, background: str) -> Image.Image:
    """An opaque image as it is; one with an alpha channel or a transparent colour as RGB, drawn on the background."""
    if not image.has_transparency_data:
        return image
    drawing = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", drawing.size, background), drawing).convert("RGB")


@cache
def _image_formats() -> list[str]:
    """Those of IMAGE_FORMATS that this Pillow has."""
    Image.init()
    return [name for name in IMAGE_FORMATS if name in Image.OPEN]


def _read_file(file: bytes | str, name: str, num_channels: int, background: str) -> np.ndarray:
    source = io.BytesIO(file) if isinstance(file, bytes) else file
    with reading(name, "a readable image"), Image.open(source, formats=_image_formats()) as image:
        try:
            return pixels(image, num_channels, background)
        except MediaError as error:
            raise MediaError(f"{name}: {error}") from error


def _is_nested_number(value: list | tuple) -> bool:
    while isinstance(value, list | tuple) and len(value):
        value = value[0]
    return isinstance(value, int | float)
