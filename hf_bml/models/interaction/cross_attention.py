"""Cross-modal attention, VATT-style: tokens of each modality attend to those of all others.

The paper names VATT (Akbari et al. 2021) as "cross-modal attention" without further detail. This is our reading, for
encoders of any kind: their last hidden states (the positions of a CNN's last feature maps, over all frames) are
projected to one width and get sinusoidal positions and a learned modality embedding; layers of self-attention,
attention to the others, and feed-forward follow; the feature of a modality is the mean of its tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..encoders.sequences import Tokens, masked_mean, seen_tokens, sinusoidal_positions
from ..options import check_attention, check_size
from .base import Inputs, Interaction, call, fill_absent


@dataclass
class CrossAttentionOptions:
    """Options of the cross-modal attention.

    Args:
        hidden_size: width of the tokens, a multiple of `num_heads`.
        num_layers: layers of self-attention, cross-attention and feed-forward.
        num_heads: attention heads.
        feedforward_size: width of the feed-forward part; default four times `hidden_size`.
        dropout: in [0, 1).
    """

    hidden_size: int = 512
    num_layers: int = 2
    num_heads: int = 8
    feedforward_size: int | None = None
    dropout: float = 0.1

    def __post_init__(self) -> None:
        check_size("num_layers", self.num_layers)
        check_attention(self)


def attend(attention: nn.MultiheadAttention, queries: Tensor, keys: Tensor, hidden: Tensor) -> Tensor:
    """What `queries` find in those of the `keys` that are not hidden; zero in a sample that hides all of them.

    Args:
        attention: batch-first; the keys are its values too.
        queries: `(batch, length, dim)`.
        keys: `(batch, other length, dim)`.
        hidden: bool `(batch, other length)`.

    Returns:
        `(batch, length, dim)`.
    """
    nothing = hidden.all(1, keepdim=True)
    # Without any key the softmax would be NaN, and so would be its gradient.
    found, _ = attention(queries, keys, keys, key_padding_mask=hidden & ~nothing, need_weights=False)
    return torch.where(nothing.unsqueeze(2), 0.0, found)


def attentions(modalities: Iterable[str], options: CrossAttentionOptions) -> nn.ModuleDict:
    """Attention for the queries of each modality, batch first."""
    sizes = (options.hidden_size, options.num_heads, options.dropout)
    return nn.ModuleDict({name: nn.MultiheadAttention(*sizes, batch_first=True) for name in modalities})


class CrossAttentionLayer(nn.Module):
    """Self-attention within each modality, attention to the tokens of all others, feed-forward; pre-norm."""

    def __init__(self, modalities: Sequence[str], options: CrossAttentionOptions):
        super().__init__()
        size, dropout = options.hidden_size, options.dropout
        wide = options.feedforward_size or 4 * size

        def norms() -> nn.ModuleDict:
            return nn.ModuleDict({name: nn.LayerNorm(size) for name in modalities})

        self.self_norms, self.self_attention = norms(), attentions(modalities, options)
        self.cross_norms, self.cross_attention = norms(), attentions(modalities, options)
        self.feedforward_norms = norms()
        self.feedforward = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Linear(size, wide), nn.GELU(), nn.Dropout(dropout), nn.Linear(wide, size))
                for name in modalities
            }
        )
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, tokens: Mapping[str, Tensor], padding: Mapping[str, Tensor], hidden: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """
        Args:
            tokens: per modality `(batch, length, dim)`.
            padding: per modality bool `(batch, length)`, what its own tokens do not see.
            hidden: the same, what the others' tokens do not see.
        """
        values = {name: self._attend_self(name, value, padding[name]) for name, value in tokens.items()}
        normed = {name: self.cross_norms[name](value) for name, value in values.items()}
        for name in tokens:
            others = [other for other in tokens if other != name]
            if others:
                keys = torch.cat([normed[other] for other in others], dim=1)
                unseen = torch.cat([hidden[other] for other in others], dim=1)
                found = attend(self.cross_attention[name], normed[name], keys, unseen)
                values[name] = values[name] + self.dropout(found)
        return {name: self._feed_forward(name, value) for name, value in values.items()}

    def _attend_self(self, name: str, tokens: Tensor, padding: Tensor) -> Tensor:
        normed = self.self_norms[name](tokens)
        return tokens + self.dropout(attend(self.self_attention[name], normed, normed, padding))

    def _feed_forward(self, name: str, tokens: Tensor) -> Tensor:
        return tokens + self.dropout(self.feedforward[name](self.feedforward_norms[name](tokens)))


class CrossAttention(Interaction):
    """Tokens of each modality attend to those of all others, layer by layer; the feature is their mean."""

    options_class = CrossAttentionOptions
    features_are_unimodal = False

    def __init__(self, encoders: Mapping[str, nn.Module], options: CrossAttentionOptions):
        super().__init__(encoders)
        size = options.hidden_size
        self.sizes = dict.fromkeys(encoders, size)
        self.projections = nn.ModuleDict(
            {modality: nn.Linear(encoder.token_size, size) for modality, encoder in encoders.items()}
        )
        self.embeddings = nn.ParameterDict({modality: nn.Parameter(torch.zeros(size)) for modality in encoders})
        self.layers = nn.ModuleList(CrossAttentionLayer(list(encoders), options) for _ in range(options.num_layers))
        self.norms = nn.ModuleDict({modality: nn.LayerNorm(size) for modality in encoders})

    def start(self, encoder: nn.Module, inputs: Inputs) -> Tokens:
        return call(encoder.tokens, inputs)

    def forward(
        self, encoders: Mapping[str, nn.Module], started: Mapping[str, Tokens | None], keep_mask: Tensor | None = None
    ) -> dict[str, Tensor]:
        values, padding, hidden = {}, {}, {}
        for column, (name, tokens) in enumerate(started.items()):
            if tokens is None:
                continue
            values[name] = self._embed(name, tokens.values)
            padding[name] = hidden[name] = ~seen_tokens(tokens)
            if keep_mask is not None:
                hidden[name] = padding[name] | ~keep_mask[:, column, None].bool()
        for layer in self.layers:
            values = layer(values, padding, hidden)
        features = {
            name: masked_mean(self.norms[name](values[name]), tokens.mask) if tokens is not None else None
            for name, tokens in started.items()
        }
        return fill_absent(features, self.sizes, keep_mask)

    def _embed(self, modality: str, tokens: Tensor) -> Tensor:
        """`(batch, length, token_size)` to `(batch, length, hidden_size)`, with positions and modality."""
        values = self.projections[modality](tokens)
        positions = sinusoidal_positions(values.shape[1], values.shape[2], values)
        return values + positions + self.embeddings[modality].to(values.dtype)
