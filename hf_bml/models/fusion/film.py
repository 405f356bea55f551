"""One modality scales and shifts the others."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from ..options import HeadOptions
from .base import layers
from .conditioned import ConditionedHead


class FiLMHead(ConditionedHead):
    """Feature-wise linear modulation (Perez et al. 2018) as in the paper's Table 2, without a residual `1 + gamma`.

    The biases start at zero, so before training y alone predicts a constant.
    """

    def __init__(self, sizes: Mapping[str, int], config: HeadOptions):
        super().__init__(sizes, config)
        self.film = nn.Linear(self.condition_size, 2 * self.content_size)
        self.classifier = layers(
            [self.content_size, *config.head_hidden_sizes, config.num_labels], config.head_dropout
        )

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        condition, content = self.split(features)
        gamma, beta = self.film(condition).chunk(2, dim=-1)
        return self.classifier(gamma * content + beta)
