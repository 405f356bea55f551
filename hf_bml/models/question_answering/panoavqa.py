"""PanoAVQA-style, adapted from LAViT (paper Table 7; our re-implementation).

Yun et al. 2021, "Pano-AVQA: grounded audio-visual question answering on 360 degree videos": transformers over text,
sound and picture; in cross-modal layers, each modality attends to the next one (text to audio, audio to visual, visual
to text); the first token of each is pooled for the answer.

What differs from the original: no spherical coordinates and no pre-training. The first ([CLS]) token joins behind the
modality's own encoder, so that any encoder will do, and a modality that a sample lacks, or has dropped, pools to zero.
Any number of modalities, each attending to the one after it. Smaller by default: the original has width 768, 12 heads,
9, 5 and 5 layers of its own encoders and 5 cross-modal ones.

    modalities:
      text: {type: transformers, config: {model_type: bert, vocab_size: 93, hidden_size: 256, num_hidden_layers: 2,
                                          num_attention_heads: 4, intermediate_size: 1024}}
      audio: {type: sequence, input_size: 128, hidden_size: 256, num_layers: 1}
      visual: {type: sequence, input_size: 512, hidden_size: 256, num_layers: 1}
    architecture: panoavqa
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..encoders.sequences import Tokens, seen_tokens
from ..interaction.cross_attention import CrossAttentionOptions, attend, attentions
from .base import Architecture


@dataclass
class PanoAVQAOptions(CrossAttentionOptions):
    """Options of the PanoAVQA-style architecture: those of [`CrossAttentionOptions`] for its cross-modal layers."""

    hidden_size: int = 256
    num_heads: int = 4


class Residual(nn.Module):
    """`LayerNorm(x + dropout(found))`, post-norm as in BERT."""

    def __init__(self, size: int, dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, values: Tensor, found: Tensor) -> Tensor:
        return self.norm(values + self.dropout(found))


class CrossModalLayer(nn.Module):
    """Every modality attends to the next one, then to itself, then feeds forward."""

    def __init__(self, modalities: Sequence[str], options: PanoAVQAOptions):
        super().__init__()
        size = options.hidden_size
        wide = options.feedforward_size or 4 * size
        following = [*modalities[1:], modalities[0]]
        self.attended = dict(zip(modalities, following, strict=True)) if len(modalities) > 1 else {}

        def residuals(names: Iterable[str]) -> nn.ModuleDict:
            return nn.ModuleDict({name: Residual(size, options.dropout) for name in names})

        self.cross_attention, self.cross_residuals = attentions(self.attended, options), residuals(self.attended)
        self.self_attention, self.self_residuals = attentions(modalities, options), residuals(modalities)
        self.feedforward_residuals = residuals(modalities)
        self.feedforward = nn.ModuleDict(
            {name: nn.Sequential(nn.Linear(size, wide), nn.GELU(), nn.Linear(wide, size)) for name in modalities}
        )

    def forward(self, values: Mapping[str, Tensor], hidden: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """
        Args:
            values: per modality `(batch, length, hidden_size)`; any of them may be left out.
            hidden: bool `(batch, length)`, the tokens that are masked out.
        """
        crossed = {}
        for name, own in values.items():
            other = self.attended.get(name)
            if other is None:
                crossed[name] = own
                continue
            found = torch.zeros_like(own)
            if other in values:
                found = attend(self.cross_attention[name], own, values[other], hidden[other])
            crossed[name] = self.cross_residuals[name](own, found)
        return {name: self._within(name, own, hidden[name]) for name, own in crossed.items()}

    def _within(self, name: str, own: Tensor, hidden: Tensor) -> Tensor:
        own = self.self_residuals[name](own, attend(self.self_attention[name], own, own, hidden))
        return self.feedforward_residuals[name](own, self.feedforward[name](own))


class PanoAVQA(Architecture):
    """Transformers in which each modality attends to the next, a pooled first token of each, a classifier."""

    options_class = PanoAVQAOptions
    provenance = (
        "A re-implementation of PanoAVQA's LAViT (Yun et al. 2021) that differs from what was published: no spherical "
        "coordinates, no pre-training, encoders of any kind instead of BERT and two towers. The original has five "
        "cross-modal layers of width 768."
    )

    def __init__(self, sizes: Mapping[str, int], num_labels: int, options: PanoAVQAOptions):
        super().__init__(sizes, num_labels, options)
        self.width = size = options.hidden_size
        self.embeddings = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Linear(width, size), nn.LayerNorm(size), nn.Dropout(options.dropout))
                for name, width in sizes.items()
            }
        )
        self.first_tokens = nn.ParameterDict({name: nn.Parameter(torch.zeros(size)) for name in sizes})
        self.layers = nn.ModuleList(CrossModalLayer(list(sizes), options) for _ in range(options.num_layers))
        self.poolers = nn.ModuleDict({name: nn.Linear(size, size) for name in sizes})
        joined = len(sizes) * size
        self.classifier = nn.Sequential(
            nn.Linear(joined, 2 * joined), nn.GELU(), nn.LayerNorm(2 * joined), nn.Linear(2 * joined, num_labels)
        )

    def forward(self, tokens: Mapping[str, Tokens]) -> Tensor:
        values, hidden = {}, {}
        for name, given in tokens.items():
            embedded, seen = self.embeddings[name](given.values), seen_tokens(given)
            first = self.first_tokens[name].to(embedded.dtype).expand(embedded.shape[0], 1, -1)
            values[name] = torch.cat([first, embedded], dim=1)
            hidden[name] = ~torch.cat([seen.any(1, keepdim=True), seen], dim=1)
        for layer in self.layers:
            values = layer(values, hidden)
        example = next(iter(values.values()))
        pooled = [
            self._pool(name, values[name], hidden[name])
            if name in values
            else example.new_zeros(example.shape[0], self.width)
            for name in self.sizes
        ]
        return self.classifier(torch.cat(pooled, dim=-1))

    def _pool(self, name: str, values: Tensor, hidden: Tensor) -> Tensor:
        """The first token of a modality, `(batch, hidden_size)`; zero where it is hidden."""
        pooled = torch.tanh(self.poolers[name](values[:, 0]))
        return torch.where(hidden[:, :1], 0.0, pooled)
