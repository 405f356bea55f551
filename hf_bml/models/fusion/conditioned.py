"""Heads in which one modality conditions the others.

FiLM and gated fusion are defined for two modalities: x conditions y. For more, x is the `conditioning` modality (by
default the first) and y the concatenation of all others.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..options import HeadOptions
from .base import FusionHead


class ConditionedHead(FusionHead):
    """Base of the heads in which one modality x conditions the others, y (their concatenation)."""

    joins_several = takes_conditioning = True

    def __init__(self, sizes: Mapping[str, int], config: HeadOptions):
        super().__init__(sizes, config)
        self.conditioning = config.conditioning or next(iter(sizes))
        self.condition_size = sizes[self.conditioning]
        self.content_size = sum(size for modality, size in sizes.items() if modality != self.conditioning)

    def split(self, features: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """x `(batch, condition_size)` and y `(batch, content_size)`."""
        others = [feature for modality, feature in features.items() if modality != self.conditioning]
        return features[self.conditioning], torch.cat(others, dim=-1)
