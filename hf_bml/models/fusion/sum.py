"""One classifier per modality, logits added."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..options import HeadOptions
from .base import FusionHead, evaluation_mode, layers


class SumHead(FusionHead):
    """One classifier per modality, logits added; the split is exact, each with its own full bias."""

    splits_exactly = True
    parts_have_bias: ClassVar[bool] = True

    def __init__(self, sizes: Mapping[str, int], config: HeadOptions):
        super().__init__(sizes, config)
        widths = [*config.head_hidden_sizes, config.num_labels]
        self.classifiers = nn.ModuleDict(
            {m: layers([size, *widths], config.head_dropout, self.parts_have_bias) for m, size in sizes.items()}
        )

    def _parts(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {modality: self.classifiers[modality](feature) for modality, feature in features.items()}

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        return torch.stack(list(self._parts(features).values())).sum(0)

    def unimodal_logits(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        with evaluation_mode(self):
            return self._parts(features)
