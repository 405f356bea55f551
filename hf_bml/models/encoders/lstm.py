"""LSTMs: the layer, and the one over token ids that encodes questions as published."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..options import check_fraction, check_sizes
from .base import Encoder, mark_initialized
from .sequences import Tokens


@dataclass
class LSTMEncoderConfig:
    """An LSTM over token ids: word vectors learned from scratch, one layer, one direction.

    Usage: `modalities: {text: {type: lstm, vocab_size: 5000}}`

    Args:
        vocab_size: number of token ids, of which 0 is the padding.
        embedding_size: width of the word vectors.
        hidden_size: width of the states, the feature size.
        dropout: of the word vectors, in [0, 1).
    """

    vocab_size: int
    embedding_size: int = 200
    hidden_size: int = 256
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_sizes(self, "vocab_size", "embedding_size", "hidden_size")
        check_fraction("dropout", self.dropout)


class RecurrentLayer(nn.LSTM):
    """An LSTM outside autocast, in the dtype of its weights: not every CPU has one in bfloat16, and the state adds up.

    Args:
        input_size: of a step.
        hidden_size: of each direction; with two, the output is `2 * hidden_size` wide.
        bidirectional: whether it also runs backwards.
    """

    def __init__(self, input_size: int, hidden_size: int, bidirectional: bool = True):
        super().__init__(input_size, hidden_size, batch_first=True, bidirectional=bidirectional)

    def forward(
        self, values: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """`(batch, length, input_size)` to the outputs `(batch, length, directions * hidden_size)` and the last
        hidden and cell state `(directions, batch, hidden_size)`; `state` is what to start from."""
        dtype = self.weight_ih_l0.dtype
        with torch.autocast(values.device.type, enabled=False):
            state = None if state is None else tuple(part.to(dtype) for part in state)
            return super().forward(values.to(dtype), state)


class LSTMEncoder(Encoder):
    """See `LSTMEncoderConfig`. One direction, so padding behind a text changes nothing before it.

    The weights start as torch's own, word vectors with unit variance.
    """

    takes_token_ids = True

    config_class = LSTMEncoderConfig

    def __init__(self, config: LSTMEncoderConfig):
        super().__init__()
        self.output_size = self.token_size = config.hidden_size
        self.embedding = nn.Embedding(config.vocab_size, config.embedding_size, padding_idx=0)
        self.dropout = nn.Dropout(config.dropout)
        self.lstm = RecurrentLayer(config.embedding_size, config.hidden_size, bidirectional=False)
        mark_initialized(self)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """
        Args:
            input_ids: int64 `(batch, length)` in [0, vocab_size), padded behind the text.
            attention_mask: optional `(batch, length)`, 0 for padding; at least one position per sample is 1.

        Returns:
            the state at the last position that is not padding, `(batch, hidden_size)`.
        """
        states, mask, _ = self.tokens(input_ids, attention_mask)
        if mask is None:
            return states[:, -1]
        last = (mask.sum(1) - 1).view(-1, 1, 1).expand(-1, 1, states.shape[-1])
        return states.gather(1, last).squeeze(1)

    def tokens(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tokens:
        """The states at all positions `(batch, length, hidden_size)`. Arguments as of `forward`."""
        if input_ids.dim() != 2 or torch.is_floating_point(input_ids):
            raise ValueError(
                f"expected token ids (batch, length), found {tuple(input_ids.shape)} of {input_ids.dtype}. "
                "Give the modality a processor of type words or tokens."
            )
        states, _ = self.lstm(self.dropout(self.embedding(input_ids)))
        return Tokens(states, None if attention_mask is None else attention_mask.bool())
