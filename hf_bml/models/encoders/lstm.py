"""An LSTM over token ids, the question encoder of question answering as published."""

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


def run_lstm(lstm: nn.LSTM, values: Tensor) -> tuple[Tensor, Tensor]:
    """An LSTM outside autocast, in the dtype of its weights: not every CPU has one in bfloat16, and the state adds up.

    Args:
        lstm: of one layer and direction, batch first.
        values: `(batch, length, input_size)`.

    Returns:
        all states `(batch, length, hidden_size)` and the last, `(batch, hidden_size)`.
    """
    with torch.autocast(values.device.type, enabled=False):
        states, (last, _) = lstm(values.to(lstm.weight_ih_l0.dtype))
    return states, last.squeeze(0)


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
        self.lstm = nn.LSTM(config.embedding_size, config.hidden_size, batch_first=True)
        if not self.embedding.weight.is_meta:  # else a checkpoint is being loaded: its weights follow
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
        states, _ = run_lstm(self.lstm, self.dropout(self.embedding(input_ids)))
        return Tokens(states, None if attention_mask is None else attention_mask.bool())
