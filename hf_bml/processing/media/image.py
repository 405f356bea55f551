"""Read images, and clips of images, from whatever a column holds."""

from __future__ import annotations

import io
from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageColor, ImageOps
from torch import Tensor
from torchvision.transforms import v2

from .file import MediaError, media_file, reading

TOLERANCE = 1e-3  # of rounding, beyond [0, 1]
PIL_MODES = {1: "L", 3: "RGB"}
FULL_SCALE = 65535  # of 16 bits
# Pillow's other formats run further programs (EPS), or are recognised by a byte or two (TGA).
IMAGE_FORMATS = (
    *("PNG", "JPEG", "GIF", "BMP", "DIB", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF", "ICO"),
    *("SGI", "PCX", "PSD", "QOI"),
)


def read_clip(value: Any, num_channels: int, background: str = "white") -> Tensor:
    """An image as `read_image` reads it, or a list, array or tensor of images with a leading frame axis.

    Returns:
        (num_channels, height, width) or (frames, num_channels, height, width), dtype unchanged.

    Raises:
        ValueError: As `read_image`; or the frames differ in size.
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
        image: See `FrameTransform`.
        num_channels: 3 (colour) or 1 (grey).
        background: Colour behind transparent pixels of a file or PIL image.

    Raises:
        ValueError: An array or tensor has another number of channels, or holds NaN, infinity or floats outside [0, 1].
        MediaError: An image file cannot be read, or the full scale of its pixels is unknown.
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
        MediaError: Pixels of 32 bits, whose full scale is unknown.
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
