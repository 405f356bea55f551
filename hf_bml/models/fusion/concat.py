"""Concatenation and one classifier."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..options import HeadOptions
from .base import FusionHead, layers


class ConcatHead(FusionHead):
    """Concatenation and a linear or multi-layer classifier (paper Eq. 1; multi-layer: Sec. 4.3.7)."""

    def __init__(self, sizes: Mapping[str, int], config: HeadOptions):
        super().__init__(sizes, config)
        self.classifier = layers(
            [sum(sizes.values()), *config.head_hidden_sizes, config.num_labels], config.head_dropout
        )
        self.splits_exactly = not config.head_hidden_sizes
        split = config.bias_split or {}
        self.bias_split = {modality: split.get(modality, 1 / len(sizes)) for modality in sizes}

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        return self.classifier(torch.cat(list(features.values()), dim=-1))

    def unimodal_logits(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Linear head: `W^m phi^m + gamma^m b`, which sums to the joint logits for `sum gamma = 1` (Eq. 2)."""
        if not self.splits_exactly:
            return self.zero_out_logits(features)
        linear = self.classifier[-1]
        blocks = linear.weight.split(list(self.sizes.values()), dim=1)
        return {
            modality: nn.functional.linear(feature, weight, self.bias_split[modality] * linear.bias)
            for (modality, feature), weight in zip(features.items(), blocks, strict=True)
        }
