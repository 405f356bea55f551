"""Features and class weights are normalised, by modality."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ...ground.task import at_least_float32
from ..options import HeadOptions
from .sum import SumHead


def unit_length(vectors: Tensor) -> Tensor:
    """`vectors` divided by their length over the last axis; zeros stay zeros, where the gradient is 1."""
    lengths = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / torch.where(lengths > 0, lengths, 1.0)


def cosines(features: Tensor, weight: Tensor) -> Tensor:
    """The cosine of the angle between every feature and the weights of every class.

    Args:
        features: `(batch, dim)`.
        weight: `(num_labels, dim)`.

    Returns:
        `(batch, num_labels)` in [-1, 1], in float32 or better, under autocast too; 0 for a feature of zeros.

    Example:
        >>> import torch
        >>> cosines(torch.tensor([[3.0, 4.0]]), torch.eye(2))
        tensor([[0.6000, 0.8000]])
    """
    with torch.autocast(features.device.type, enabled=False):
        return nn.functional.linear(unit_length(at_least_float32(features)), unit_length(at_least_float32(weight)))


class CosineHead(SumHead):
    """MMCosine (Xu et al. 2023): `s sum_m cos(W^m, phi^m)` without bias, so that no modality wins by its norms.

    The joint logits lie in [-M s, M s]. A modality that is absent or dropped adds nothing. Hidden layers have no bias
    either; it is what they make of the feature that is normalised. For a probability P of the true class, C classes
    whose weights lie as far apart as they can, and M modalities, s must be at least
    `(C - 1) / (C M) ln((C - 1) P / (1 - P))`.
    """

    parts_have_bias = False

    def __init__(self, sizes: Mapping[str, int], config: HeadOptions):
        super().__init__(sizes, config)
        self.scale = config.cosine_scale

    def _parts(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        parts = {}
        for modality, feature in features.items():
            *hidden, last = self.classifiers[modality]
            for layer in hidden:
                feature = layer(feature)
            parts[modality] = self.scale * cosines(feature, last.weight)
        return parts
