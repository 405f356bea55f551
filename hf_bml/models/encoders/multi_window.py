"""Our surrogate for MWTSM, a row of the paper's Table 8 of which no description was found: not the cited method.

What the name suggests is built: log spectrograms with several window lengths ("MW"), and a residual network with
channels shifted along time ("TSM").
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..options import check_size
from .base import mark_initialized
from .image import TimmBased, check_architecture, check_shift_fraction
from .sequences import Tokens, positions_as_tokens
from .tsn_tsm import TimeAxisShift, insert_before_blocks


@dataclass
class MultiWindowEncoderConfig:
    """Our surrogate for MWTSM (paper Table 8), not the cited method: spectrograms of several windows, one ResNet.

    The same timm ResNet sees each window's log spectrogram, and before each residual block shifts channels along
    time. The feature is the mean over windows, weighted by a learned softmax.

    Usage: `modalities: {audio: {type: multi_window, num_windows: 3}}`

    Args:
        num_windows: spectrograms of the input `(num_windows, frequencies, frames)`.
        architecture: a timm ResNet.
        shift_fraction: share of the channels that moves in each direction, in (0, 0.5].
        model_args: further keywords of the timm model, such as `{"channels": [8, 16, 32, 64]}` for a thin ResNet.
    """

    num_windows: int = 3
    architecture: str = "resnet18"
    shift_fraction: float = 1 / 8
    model_args: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_size("num_windows", self.num_windows)
        check_architecture(self.architecture)
        check_shift_fraction(self.shift_fraction)


class MultiWindowEncoder(TimmBased):
    """See `MultiWindowEncoderConfig`. One network sees every window's spectrogram as an image of one channel."""

    provenance = (
        "A surrogate for MWTSM, of which no description was found, and not the cited method: it is built from what "
        "the name suggests, spectrograms with several window lengths and channels shifted along time."
    )

    config_class = MultiWindowEncoderConfig

    def __init__(self, config: MultiWindowEncoderConfig):
        import timm  # slow to import

        super().__init__()
        self.num_windows = config.num_windows
        self.model = timm.create_model(config.architecture, in_chans=1, num_classes=0, **config.model_args)
        insert_before_blocks(self.model, partial(TimeAxisShift, config.shift_fraction))
        mark_initialized(self.model)
        self.window_scores = nn.Parameter(torch.zeros(config.num_windows))
        self.output_size = self.token_size = self.model.num_features

    def forward(self, values: Tensor) -> Tensor:
        """`(batch, num_windows, frequencies, frames)` to `(batch, output_size)`."""
        return self._weighted(self.model(self._images(values)))

    def tokens(self, values: Tensor) -> Tokens:
        """The positions of the last feature maps, averaged over windows: `(batch, positions, token_size)`."""
        return Tokens(self._weighted(positions_as_tokens(self.model.forward_features(self._images(values)))))

    def _images(self, values: Tensor) -> Tensor:
        if values.dim() != 4 or values.shape[1] != self.num_windows:
            raise ValueError(
                f"expected (batch, {self.num_windows}, frequencies, frames), found {tuple(values.shape)}. Set the "
                "encoder's num_windows to the number of the processor's window_lengths."
            )
        return values.flatten(0, 1).unsqueeze(1)  # (batch * num_windows, 1, frequencies, frames)

    def _weighted(self, features: Tensor) -> Tensor:
        """`(batch * num_windows, ..., dim)` to `(batch, ..., dim)` by the learned weights of the windows."""
        weights = self.window_scores.softmax(0).to(features.dtype)
        return torch.einsum("bw...,w->b...", features.unflatten(0, (-1, self.num_windows)), weights)
