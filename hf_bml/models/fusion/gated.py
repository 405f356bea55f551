"""One modality gates the others."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..options import HeadOptions
from .base import layers
from .conditioned import ConditionedHead


class GatedHead(ConditionedHead):
    """Gated fusion (Kiela et al. 2018): x gates y; both are projected to the width of the largest feature.

    Without x the gate is sigmoid(bias), not shut. The biases start at zero, so before training x alone predicts a
    constant.
    """

    def __init__(self, sizes: Mapping[str, int], config: HeadOptions):
        super().__init__(sizes, config)
        width = max(sizes.values())
        self.gate = nn.Linear(self.condition_size, width)
        self.content = nn.Linear(self.content_size, width)
        self.classifier = layers([width, *config.head_hidden_sizes, config.num_labels], config.head_dropout)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        condition, content = self.split(features)
        return self.classifier(torch.sigmoid(self.gate(condition)) * self.content(content))
