"""Multi-loss: beside the joint loss, one of each modality's own prediction.

    L = CE(o, y) + weight * sum_m CE(o^m, y)

Every encoder then has to predict by itself, so that no modality's is left behind where the others explain the labels,
and the model keeps working when one is missing. The plainest of the baselines, and hard to beat.

Usage:      `modulations: {multi_loss: {}}`, or, with ModDrop, `modulations: balanced`
Values:     `weight: 1.0`. `heads: split`: o^m is the joint head's own share, W^m phi^m + b/M of a linear head, without
            further parameters or passes; of other heads what they predict with the other features at zero, one pass of
            the head per modality. `heads: own`: a linear classifier per modality, beside the joint head; the model's
            config then has `auxiliary_loss_weight: 0` and `own_head_when_alone: true`, as a recipe's has by itself, so
            that in evaluation a modality that is left alone is answered for by its own classifier.
Relations:  drops of ModDrop and OPM act on o, never on o^m; a modality that a sample lacks does not count in its loss.
            It takes the place of `auxiliary_loss_weight`. A method that replaces the losses (gradient_blending)
            excludes it.
Limits:     `heads: split` of a head with an exact split sees no `head_dropout`. It trusts every modality: one that
            looks good in training only, such as features that were fitted to the training labels, costs accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .base import Modulation, Title
from .config import ModulationConfig, option
from .step import AUXILIARY, MicroBatch, Needs, Step

HEADS = ("split", "own")


@dataclass
class MultiLossConfig(ModulationConfig):
    """Options of multi-loss.

    Args:
        heads: what predicts from one modality: `"split"`, the joint head's share; or `"own"`, a classifier per
            modality.
        weight: of the summed losses of the modalities, at least 0. 0 is plain training, of a model without own heads.
    """

    heads: str = option("split", "What predicts from one modality: split, of the joint head, or own.", HEADS)
    weight: float = option(1.0, "Of the modalities' summed losses, at least 0.", "[0, inf)")


class MultiLoss(Modulation):
    """Adds the loss of every modality's own prediction.

    Logs `multi_loss/loss_<m>`, without the weight; in a micro-batch in which no sample has the modality it is 0.
    """

    name = "multi_loss"
    config_class = MultiLossConfig
    config: MultiLossConfig
    phase = "add_losses"
    titles: ClassVar = {"loss": Title("loss of one modality")}

    def needs(self, modalities: Sequence[str]) -> Needs:
        if not self.config.weight:
            return Needs()
        if self.config.heads == "split":
            return Needs(head_graph=True)
        options = {"auxiliary_loss_weight": 0.0, "own_head_when_alone": True}
        return Needs(own_heads=True, unimodal_graph=True, model_options=options)

    def own_logits(self, batch: MicroBatch) -> dict[str, Tensor]:
        """What each modality predicts, `(batch, ...)`, with a graph."""
        return batch.head_graph if self.config.heads == "split" else batch.unimodal_graph

    def own_losses(self, logits: dict[str, Tensor], batch: MicroBatch) -> dict[str, Tensor]:
        """The weighted loss of each modality's own logits, which are logged without the weight."""
        losses = {name: batch.loss(own, batch.present(name)) for name, own in logits.items()}
        self.means.add({f"{self.name}/loss": torch.stack([loss.detach() for loss in losses.values()])})
        return {name: self.config.weight * loss for name, loss in losses.items()}

    def forward_losses(self, features: dict[str, Tensor], batch: MicroBatch, step: Step) -> dict[str, Tensor]:
        return self.own_losses(self.own_logits(batch), batch) if self.config.weight else {}

    def modulate_losses(self, losses: dict[str, Tensor], batch: MicroBatch, step: Step) -> dict[str, Tensor]:
        if not self.config.weight or self.config.heads == "split":
            return losses
        return {name: loss for name, loss in losses.items() if name != AUXILIARY}
