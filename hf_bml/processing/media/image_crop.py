"""Bring images and clips to one size: augmentation in training, resizing in evaluation."""

import torch
from torch import Tensor
from torchvision.transforms import v2


class ImageCrop:
    """Crop, flip and resize `(..., channels, height, width)`; one draw for everything in the leading axes.

    Args:
        size: output height and width: one number for a square, or (height, width).
        augment: "none", or "crop_flip": RandomResizedCrop and horizontal flip in training, from the global torch RNG.
        crop_scale: range of the crop's area as a fraction of the image's.
        crop_ratio: range of the crop's width / height.
        flip: probability of a horizontal flip.
        evaluation: "resize", or "center_crop": cut the largest centred region with the shape of `size`, then resize.

    Raises:
        ValueError: unknown `augment` or `evaluation`.
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
