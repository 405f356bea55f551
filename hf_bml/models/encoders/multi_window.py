"""Our surrogate for MWTSM, a row of the paper's Table 8 of which no description was found: not the cited method.

What the name suggests is built: log spectrograms with several window lengths ("MW"), and a residual network with
channels shifted along time ("TSM").
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..segment_networks import TimeAxisShift, insert_before_blocks
from .image import mark_initialized
from .sequences import Tokens, positions_as_tokens


class MultiWindowEncoder(nn.Module):
    """See `MultiWindowEncoderConfig`. One network sees every window's spectrogram as an image of one channel."""

    provenance = (
        "A surrogate for MWTSM, of which no description was found, and not the cited method: it is built from what "
        "the name suggests, spectrograms with several window lengths and channels shifted along time."
    )

    def __init__(self, config: Any):
        import timm  # slow to import

        super().__init__()
        on_meta = torch.empty(0).is_meta  # a checkpoint is being loaded: its weights follow
        self.num_windows = config.num_windows
        self.model = timm.create_model(config.architecture, in_chans=1, num_classes=0, **config.model_args)
        insert_before_blocks(self.model, partial(TimeAxisShift, config.shift_fraction))
        if not on_meta:
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
