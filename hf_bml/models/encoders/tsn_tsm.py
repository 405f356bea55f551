"""What temporal segment networks (TSN) and temporal shift modules (TSM) change in a CNN for clips.

TSN (Wang et al., ECCV 2016): one snippet per segment (the processor's `sampling: segment`), the mean of the segments'
scores as consensus, dropout, and batch normalisation frozen but for the first layer. With a linear classifier the mean
of the scores is the score of the mean feature, so an encoder's mean over frames is that consensus.

TSM (Lin et al., ICCV 2019): before the first convolution of every residual block, some channels move one frame back
and as many one frame forward.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def temporal_shift(maps: Tensor, frames: int, fraction: float = 1 / 8, mask: Tensor | None = None) -> Tensor:
    """Exchange channels between neighbouring frames of a clip.

    The first `fraction` of the channels take the values of the next frame, the second those of the previous frame,
    and the others stay. Before the first frame and behind the last there are zeros.

    Args:
        maps: `(batch * frames, channels, height, width)`, a clip's frames one after the other.
        frames: frames per clip.
        fraction: share of the channels that moves in each direction, in (0, 0.5]; rounded down to whole channels.
        mask: optional bool `(batch, frames)`, False for padding frames, which count as zeros.

    Returns:
        the shape of `maps`.

    Example:
        >>> maps = torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1, 1).expand(3, 8, 1, 1)
        >>> temporal_shift(maps, 3).flatten(1)[:, :3].T.tolist()
        [[2.0, 3.0, 0.0], [0.0, 1.0, 2.0], [1.0, 2.0, 3.0]]
    """
    clips = maps.unflatten(0, (-1, frames))  # (batch, frames, channels, height, width)
    return shift_channels(clips, fraction, mask).flatten(0, 1)


def shift_channels(sequences: Tensor, fraction: float, mask: Tensor | None = None) -> Tensor:
    """As `temporal_shift`, for sequences `(batch, time, channels, ...)` with a `mask (batch, time)`."""
    size = int(sequences.shape[2] * fraction)
    moving = sequences[:, :, : 2 * size]
    if mask is not None:
        moving = torch.where(mask.bool().view(*mask.shape, *[1] * (moving.dim() - 2)), moving, 0.0)
    edge = torch.zeros_like(moving[:, :1, :size])
    from_next = torch.cat([moving[:, 1:, :size], edge], dim=1)
    from_previous = torch.cat([edge, moving[:, :-1, size:]], dim=1)
    return torch.cat([from_next, from_previous, sequences[:, :, 2 * size :]], dim=2)


class TemporalShift(nn.Module):
    """See `temporal_shift`.

    Attributes:
        frames: frames per clip of the maps that come next; `set_clips` sets it.
        mask: their padding, see `temporal_shift`.
    """

    def __init__(self, fraction: float):
        super().__init__()
        self.fraction = fraction
        self.frames = 1
        self.mask: Tensor | None = None

    def forward(self, maps: Tensor) -> Tensor:
        return temporal_shift(maps, self.frames, self.fraction, self.mask)


class TimeAxisShift(nn.Module):
    """`shift_channels` along the last axis of maps `(batch, channels, height, width)`, the time of a spectrogram."""

    def __init__(self, fraction: float):
        super().__init__()
        self.fraction = fraction

    def forward(self, maps: Tensor) -> Tensor:
        return shift_channels(maps.permute(0, 3, 1, 2), self.fraction).permute(0, 2, 3, 1)


def insert_before_blocks(model: nn.Module, make_shift: Callable[[], nn.Module]) -> None:
    """Put a new shift before `conv1` of every residual block of a timm ResNet, in place.

    Raises:
        ValueError: the model has no ResNet block.
    """
    from timm.models.resnet import BasicBlock, Bottleneck  # timm is slow to import

    blocks = [module for module in model.modules() if isinstance(module, BasicBlock | Bottleneck)]
    if not blocks:
        raise ValueError(
            f"temporal shift needs the residual blocks of a timm ResNet, found a {type(model).__name__} without any. "
            "Use an architecture such as resnet18, or a timm encoder with temporal_shift: false."
        )
    for block in blocks:
        block.conv1 = nn.Sequential(make_shift(), block.conv1)


def set_clips(model: nn.Module, frames: int, mask: Tensor | None) -> None:
    """Tell every `TemporalShift` in `model` how the images that come next form clips."""
    for module in model.modules():
        if isinstance(module, TemporalShift):
            module.frames, module.mask = frames, mask


def partially_frozen(model: nn.Module) -> list[nn.Module]:
    """The batch normalisation layers of a CNN but the first.

    Warns if one of them has only zero weights, as the last of timm's residual blocks before training.

    Raises:
        ValueError: the model has no batch normalisation.
    """
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    if not layers:
        raise ValueError(
            f"partial_batch_norm needs batch normalisation, found a {type(model).__name__} without any. "
            "Use an architecture such as resnet18, or partial_batch_norm: false."
        )
    if any(not layer.weight.is_meta and not layer.weight.any() for layer in layers[1:]):
        warnings.warn(
            "partial_batch_norm freezes layers whose weights are all zero, so that their blocks never contribute. "
            "Start from pretrained weights, or set model_args: {zero_init_last: false}.",
            stacklevel=2,
        )
    return layers[1:]


def freeze(layers: list[nn.Module]) -> None:
    """Batch normalisation by the stored statistics, without gradient; a later `train()` must be followed by this."""
    for layer in layers:
        layer.eval().requires_grad_(False)
