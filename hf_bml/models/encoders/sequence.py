"""A small transformer encoder of features that were extracted before."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from ..options import check_attention, check_size
from .base import Encoder
from .sequences import Tokens, frames_as_one_sequence, sinusoidal_positions


@dataclass
class SequenceEncoderConfig:
    """A small transformer encoder over pre-extracted feature sequences `(time, dim)`, vectors `(dim,)`, or frames with
    positions `(frames, positions, dim)`, which become one sequence.

    Usage: `modalities: {pose: {type: sequence, input_size: 60, hidden_size: 64}}`

    Args:
        input_size: dimension of an input feature.
        hidden_size: width, a multiple of `num_heads`.
        num_layers: transformer layers; 0 leaves a linear projection and the mean over time.
        num_heads: attention heads.
        feedforward_size: width of the feed-forward part; default four times `hidden_size`.
        dropout: in [0, 1).
        positions: add sinusoidal encodings of the time (of the frame, where there are positions).
    """

    input_size: int
    hidden_size: int = 128
    num_layers: int = 2
    num_heads: int = 4
    feedforward_size: int | None = None
    dropout: float = 0.1
    positions: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.positions, bool):
            raise ValueError(f"positions must be true or false, found {self.positions!r}.")
        check_size("input_size", self.input_size)
        check_size("num_layers", self.num_layers, least=0)
        check_attention(self)


class TransformerEncoderLayer(GradientCheckpointingLayer, nn.TransformerEncoderLayer):
    """Torch's layer with activation checkpointing as the layers of transformers have it; a device map or FSDP finds it
    by its name."""


class SequenceEncoder(Encoder):
    """See `SequenceEncoderConfig`. Sinusoidal positions, padding mask, pre-norm layers, mean over valid positions."""

    config_class = SequenceEncoderConfig

    def __init__(self, config: SequenceEncoderConfig):
        super().__init__()
        self.input_size = config.input_size
        self.output_size = self.token_size = config.hidden_size
        self.projection = nn.Linear(config.input_size, config.hidden_size)
        self.layers = nn.ModuleList(
            TransformerEncoderLayer(
                config.hidden_size,
                config.num_heads,
                config.feedforward_size or 4 * config.hidden_size,
                config.dropout,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(config.num_layers)
        )
        self.norm = nn.LayerNorm(config.hidden_size) if config.num_layers else nn.Identity()
        self.has_positions = config.positions

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """
        Args:
            values: `(batch, time, input_size)`, `(batch, input_size)`, or `(batch, frames, positions, input_size)`.
            mask: optional bool `(batch, time)` or `(batch, frames)`, False for padding; at least one per sample is
                True.
        """
        return self.tokens(values, mask).mean()

    def tokens(self, values: Tensor, mask: Tensor | None = None) -> Tokens:
        """The last hidden states `(batch, time, token_size)`; a vector is a sequence of one, and the positions of
        frames come one frame after the other. Arguments as of `forward`."""
        if values.dim() not in (2, 3, 4) or values.shape[-1] != self.input_size:
            raise ValueError(
                f"expected (batch, {self.input_size}), (batch, time, {self.input_size}) or (batch, frames, positions, "
                f"{self.input_size}), found {tuple(values.shape)}. Set the encoder's input_size to the feature's "
                "dimension."
            )
        hidden = self.projection(values)
        if values.dim() > 2 and self.has_positions:
            encodings = sinusoidal_positions(hidden.shape[1], hidden.shape[-1], hidden)
            hidden = hidden + (encodings if values.dim() == 3 else encodings.unsqueeze(1))
        frames = None
        if values.dim() == 4:
            hidden, mask, frames = frames_as_one_sequence(hidden.flatten(0, 1), hidden.shape[1], mask)
        hidden = hidden.unsqueeze(1) if values.dim() == 2 else hidden
        mask = None if mask is None else mask.bool()
        for layer in self.layers:
            hidden = layer(hidden, src_key_padding_mask=None if mask is None else ~mask)
        return Tokens(self.norm(hidden), mask, frames)
