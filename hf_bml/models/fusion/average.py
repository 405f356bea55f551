"""What an ensemble of unimodal models predicts (`from_unimodal: models`): means over the modalities present."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .base import presence
from .sum import SumHead


class AverageLogitsHead(SumHead):
    """The mean of the classifiers' logits over the modalities that a sample has.

    A modality whose feature is zero in every entry is absent, as `drop_features` leaves it; without any, all count.
    """

    splits_exactly = False  # the joint logits are a mean, not a sum

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        weights = presence(features).to(next(iter(features.values())).dtype)
        weights = weights / weights.sum(0)
        return self._mean(torch.stack(list(self._parts(features).values())), weights)

    def _mean(self, parts: Tensor, weights: Tensor) -> Tensor:
        """Of `(modalities, batch, num_labels)`, weighted by `(modalities, batch, 1)`."""
        return (weights * parts).sum(0)


class AverageProbabilitiesHead(AverageLogitsHead):
    """The logarithm of the mean of the classifiers' probabilities over the modalities that a sample has."""

    def _parts(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: logits.log_softmax(-1) for name, logits in super()._parts(features).items()}

    def _mean(self, parts: Tensor, weights: Tensor) -> Tensor:
        return (parts + weights.log()).logsumexp(0)
