"""Projections, multiplied."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..options import HeadOptions
from .base import FusionHead, layers


class ProductHead(FusionHead):
    """Purely multiplicative fusion: bias-free projections to the width of the largest feature, multiplied.

    One missing factor leaves the classifier of zero, a constant: zero-out tells nothing, so only probe heads can score
    the modalities, and a sample that lacks a modality, or has it dropped, teaches the encoders nothing.
    """

    zero_out_is_blind = joins_several = True

    def __init__(self, sizes: Mapping[str, int], config: HeadOptions):
        super().__init__(sizes, config)
        width = max(sizes.values())
        self.factors = nn.ModuleDict(
            {modality: nn.Linear(size, width, bias=False) for modality, size in sizes.items()}
        )
        self.classifier = layers([width, *config.head_hidden_sizes, config.num_labels], config.head_dropout)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        factors = [self.factors[modality](feature) for modality, feature in features.items()]
        return self.classifier(torch.stack(factors).prod(0))
