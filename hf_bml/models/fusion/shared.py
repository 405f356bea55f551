"""One classifier for the features of all modalities."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ...ground.task import at_least_float32
from ..options import HeadOptions
from .base import FusionHead, evaluation_mode, layers, presence

SHARED_PREDICTIONS = ("mean", "sum", "entropy")


def entropy_weights(logits: Tensor, present: Tensor) -> Tensor:
    """`exp(max_j H^j - H^m)` divided by its sum, H^m being the entropy of what a modality predicts of a sample.

    Args:
        logits: `(modalities, batch, num_labels)`.
        present: bool `(modalities, batch, 1)`; others have no weight.

    Returns:
        `(modalities, batch, 1)`, summing to 1 over the modalities, in float32 or better.

    Example:
        >>> import torch
        >>> entropy_weights(torch.tensor([[[3.0, 0.0]], [[0.0, 0.0]]]), torch.ones(2, 1, 1).bool()).squeeze()
        tensor([0.6230, 0.3770])
    """
    logs = at_least_float32(logits).log_softmax(-1)
    entropies = -(logs.exp() * logs).sum(-1, keepdim=True)
    return (-entropies).masked_fill(~present, -torch.inf).softmax(0)


class SharedHead(FusionHead):
    """The same classifier g for every modality, as MLA, ReconBoost and TCMax have it.

    `shared_prediction` says how the g(phi^m) are joined: their `sum`; their `mean` over the modalities that a sample
    has; or, in evaluation, a mean weighted by `entropy_weights`, in which the surer modality counts more, and in
    training the plain one. Features of another size than `shared_width` (by default the largest) are first projected
    to it, without bias.
    """

    def __init__(self, sizes: Mapping[str, int], config: HeadOptions):
        super().__init__(sizes, config)
        width = config.shared_width or max(sizes.values())
        self.projections = nn.ModuleDict(
            {m: nn.Linear(size, width, bias=False) for m, size in sizes.items() if size != width}
        )
        self.classifier = layers([width, *config.head_hidden_sizes, config.num_labels], config.head_dropout)
        self.prediction = config.shared_prediction
        self.splits_exactly = self.prediction == "sum"

    def _parts(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {
            modality: self.classifier(self.projections[modality](feature) if modality in self.projections else feature)
            for modality, feature in features.items()
        }

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        parts = torch.stack(list(self._parts(features).values()))
        if self.prediction == "sum":
            return parts.sum(0)
        present = presence(features)
        if self.prediction == "entropy" and not self.training:
            return (entropy_weights(parts, present).to(parts.dtype) * parts).sum(0)
        return torch.where(present, parts, 0.0).sum(0) / present.sum(0)

    def unimodal_logits(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        with evaluation_mode(self):
            return self._parts(features)
