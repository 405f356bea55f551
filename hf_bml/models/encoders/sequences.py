"""Sequences of tokens `(batch, length, dim)` and their padding."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Tokens(NamedTuple):
    """A modality's sequence.

    Attributes:
        values: `(batch, length, dim)`.
        mask: bool `(batch, length)`, False for padding; None for no padding.
        frames: how many frames of equally many positions, one after the other, the sequence is; None if it is of
            another kind.
    """

    values: Tensor
    mask: Tensor | None = None
    frames: int | None = None

    def mean(self) -> Tensor:
        """The mean of a sample's tokens without its padding, `(batch, dim)`."""
        return masked_mean(self.values, self.mask)


def seen_tokens(tokens: Tokens) -> Tensor:
    """Which tokens are not padding, bool `(batch, length)`."""
    if tokens.mask is None:
        return torch.ones(tokens.values.shape[:2], dtype=torch.bool, device=tokens.values.device)
    return tokens.mask.bool()


def masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over dimension 1 of `(batch, length, dim)`, of the positions where `mask (batch, length)` is true."""
    if mask is None:
        return values.mean(1)
    weights = mask.to(values.dtype).unsqueeze(-1)
    return (values * weights).sum(1) / weights.sum(1).clamp_min(1)


def positions_as_tokens(maps: Tensor) -> Tensor:
    """`(batch, channels, height, width)` to `(batch, height * width, channels)`."""
    return maps.flatten(2).transpose(1, 2)


def frames_as_one_sequence(tokens: Tensor, frames: int, mask: Tensor | None) -> Tokens:
    """The tokens of a clip's frames, one frame after the other.

    Args:
        tokens: `(batch * frames, length, dim)`.
        frames: frames per clip.
        mask: optional bool `(batch, frames)`, False for padding frames.
    """
    repeated = None if mask is None else mask.bool().repeat_interleave(tokens.shape[1], 1)
    return Tokens(tokens.unflatten(0, (-1, frames)).flatten(1, 2), repeated, frames)


def sinusoidal_positions(length: int, size: int, like: Tensor) -> Tensor:
    """Sine-cosine position encodings `(length, size)` in the dtype and on the device of `like`."""
    position = torch.arange(length, device=like.device, dtype=torch.float32).unsqueeze(1)
    frequency = torch.exp(
        torch.arange(0, size, 2, device=like.device, dtype=torch.float32) * (-math.log(10000.0) / size)
    )
    angles = position * frequency  # (length, ceil(size / 2))
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :size].to(like.dtype)
