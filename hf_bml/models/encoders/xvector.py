"""The x-vector network (Snyder et al., ICASSP 2018), trained end to end as an encoder of sound."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..options import check_sizes
from .base import Encoder
from .sequences import Tokens, masked_mean

KERNELS = ((5, 1), (3, 2), (3, 3), (1, 1), (1, 1))  # kernel size and dilation of each layer
CONTEXT = sum((kernel - 1) * dilation for kernel, dilation in KERNELS)  # frames lost: 14


@dataclass
class XVectorEncoderConfig:
    """The time-delay network of x-vectors over spectrograms or MFCC `(1, num_bins, frames)`, at least 15 frames.

    Five dilated convolutions over time, the mean and the standard deviation over time, and two linear layers.

    Usage: `modalities: {audio: {type: xvector, num_bins: 40}}`

    Args:
        num_bins: frequencies or coefficients of the input; the original has 24.
        hidden_size: channels of the first four layers, and size of the feature.
        pooled_size: channels of the fifth layer.
    """

    num_bins: int
    hidden_size: int = 512
    pooled_size: int = 1500

    def __post_init__(self) -> None:
        check_sizes(self, "num_bins", "hidden_size", "pooled_size")


def statistics_pooling(values: Tensor, mask: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """Mean and standard deviation over time.

    Args:
        values: `(batch, time, dim)`.
        mask: optional bool `(batch, time)`, False for padding.
        eps: added to the biased variance, so that the gradient of a constant sequence is finite.

    Returns:
        `(batch, 2 * dim)`, the means first.

    Example:
        >>> statistics_pooling(torch.tensor([[[1.0], [3.0]]]), eps=0.0)
        tensor([[2., 1.]])
    """
    mean = masked_mean(values, mask)
    variance = masked_mean((values - mean.unsqueeze(1)).square(), mask)
    return torch.cat([mean, (variance + eps).sqrt()], dim=-1)


class XVectorEncoder(Encoder):
    """See `XVectorEncoderConfig`. The feature is the second segment layer."""

    config_class = XVectorEncoderConfig

    def __init__(self, config: XVectorEncoderConfig):
        super().__init__()
        self.num_bins = config.num_bins
        self.token_size = config.pooled_size
        self.output_size = config.hidden_size
        sizes = [config.num_bins, *[config.hidden_size] * (len(KERNELS) - 1), config.pooled_size]
        self.layers = nn.Sequential(
            *(
                nn.Sequential(nn.Conv1d(before, after, kernel, dilation=dilation), nn.ReLU(), nn.BatchNorm1d(after))
                for (before, after), (kernel, dilation) in zip(itertools.pairwise(sizes), KERNELS, strict=True)
            )
        )
        self.segment = nn.Sequential(
            nn.Linear(2 * config.pooled_size, config.hidden_size),
            nn.ReLU(),
            nn.BatchNorm1d(config.hidden_size),
            nn.Linear(config.hidden_size, config.hidden_size),
        )

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """
        Args:
            values: `(batch, 1, num_bins, frames)`, at least 15 frames.
            mask: optional bool `(batch, frames)`, False for padding frames. At least 15 consecutive frames of each
                sample are True.
        """
        tokens = self.tokens(values, mask)
        return self.segment(statistics_pooling(tokens.values, tokens.mask))

    def tokens(self, values: Tensor, mask: Tensor | None = None) -> Tokens:
        """The outputs of the frame layers `(batch, frames - 14, token_size)`. Arguments as of `forward`.

        An output is valid where all the frames that it sees are.
        """
        if values.dim() != 4 or values.shape[1:3] != (1, self.num_bins) or values.shape[3] <= CONTEXT:
            raise ValueError(
                f"expected (batch, 1, {self.num_bins}, at least {CONTEXT + 1} frames), found {tuple(values.shape)}. "
                "Set the encoder's num_bins to the processor's frequencies, or lengthen the clips."
            )
        hidden = self.layers(values.squeeze(1)).transpose(1, 2)
        valid = None if mask is None else mask.bool().unfold(1, CONTEXT + 1, 1).all(-1)
        return Tokens(hidden, valid)
