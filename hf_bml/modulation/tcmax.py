"""TCMax: maximise the total correlation of all modalities and the label.

ICLR 2026. With f the joint logits, B samples and C classes, and j_1...j_M running over all samples independently:

    L = -mean_i f(phi_i^1, ..., phi_i^M)[y_i]
        + log (1 / (B^M C)) sum_{j_1...j_M, y} exp f(phi_{j_1}^1, ..., phi_{j_M}^M)[y]

The first term is that of the cross-entropy; the normaliser runs over all combinations of the batch's features instead
of over the classes of a sample. For f = sum_m u^m it factorises: A^m[y] = sum_j exp u_j^m[y],

    log (1 / (B^M C)) sum_y prod_m A^m[y]

so that no combination is ever formed. In terms of the loss that the training minimises, whatever it is (label
smoothing, a loss of your own), L is that loss - mean_i logsumexp f(phi_i) + the normaliser. A constant in L, which
differs in the authors' code, changes no training.

Usage:      `modulations: {tcmax: {}}`
Values:     no options of its own.
Relations:  drops of OPM and ModDrop apply to all terms. Multi-loss can be added.
Limits:     the joint logits must be a sum of unimodal ones (`fusion: concat` without hidden layers, `sum`, `shared`
            with `shared_prediction: sum`, ...). The combinations are those of a micro-batch of one process:
            accumulation and several processes give other losses than the big batch, and a micro-batch of one sample
            gives the plain loss. Predictions are the usual softmax, which assumes classes that are equally frequent.

A sample that lacks a modality, or has it dropped, counts in no A^m, B being the number of those that have it; in the
first term it has the modality's share of the bias. This treatment is ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from ..ground.task import at_least_float32
from .base import Modulation, Title
from .step import JOINT, MicroBatch, Needs, Step


def log_mean_of_combinations(logits: Mapping[str, Tensor], present: Tensor | None = None) -> Tensor:
    """The logarithm of the mean of exp f over all combinations of samples and all classes, 0-d, float32 or better.

    Args:
        logits: u^m per modality, `(batch, num_labels)`; f is a sum of one of each.
        present: optional bool `(batch, modalities)`: the samples that count. All do for a modality that none has.

    Example:
        >>> import torch
        >>> log_mean_of_combinations({"audio": torch.zeros(3, 2), "visual": torch.tensor([[0.0, 0.0], [0.0, 0.0]])})
        tensor(0.)
    """
    parts = []
    for column, own in enumerate(logits.values()):
        own = at_least_float32(own)
        counts = torch.ones_like(own[:, 0], dtype=torch.bool) if present is None else present[:, column]
        counts = counts | ~counts.any()
        log_sum = torch.where(counts.unsqueeze(1), own, -torch.inf).logsumexp(0)
        parts.append(log_sum - counts.sum().log())
    return torch.stack(parts).sum(0).logsumexp(0) - math.log(parts[0].shape[-1])


class TCMax(Modulation):
    """Replaces the normaliser of the joint prediction by that over all combinations of the micro-batch's features.

    Logs `tcmax/normaliser`, the last term of L, and `tcmax/loss`, L.
    """

    name = "tcmax"
    phase = "add_losses"
    accumulation = "per_micro_batch"
    titles: ClassVar = {"normaliser": Title("log mean of exp logits", None), "loss": Title("loss", None)}

    def needs(self, modalities: Sequence[str]) -> Needs:
        return Needs(head_graph=True, exact_split=True, classes=True)

    def modulate_features(
        self, features: dict[str, Tensor], batch: MicroBatch, keep_mask: Tensor | None, step: Step
    ) -> dict[str, Tensor]:
        batch.scratch[self.name] = keep_mask
        return features

    def forward_losses(self, features: dict[str, Tensor], batch: MicroBatch, step: Step) -> dict[str, Tensor]:
        return {self.name: batch.weight * log_mean_of_combinations(batch.split(features), batch.scratch[self.name])}

    def modulate_losses(self, losses: dict[str, Tensor], batch: MicroBatch, step: Step) -> dict[str, Tensor]:
        normaliser = at_least_float32(batch.output["logits"]).logsumexp(-1)
        joint = losses[JOINT] - batch.mean(normaliser)
        logged = {"tcmax/normaliser": losses[self.name], "tcmax/loss": joint + losses[self.name]}
        self.means.add({name: value.detach() / batch.weight for name, value in logged.items()})
        return {**losses, JOINT: joint}
