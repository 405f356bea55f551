"""MBSD, a self-distillation between modalities: the better one teaches the other, sample by sample.

WSDM 2023. Of two modalities with logits u^1 and u^2, true-class probabilities s and predictions p:

    w_i = |s_i^1 - s_i^2| if one of them is right about sample i, else 0
    L   = loss(o) + sum_m loss(u^m) + mean_i w_i ||u_i^1 - u_i^2||^2 / C + mean_i w_i KL(p_i^strong || p_i^weak)

The strong modality of a sample is the one with the larger s; its p and all w are constants. With more than two
modalities the last two terms are means over the pairs. This is our reading of the method.

Usage:      `modulations: {mbsd: {}}`
Values:     all weights 1.
Relations:  `multi_loss`, whose options `heads` and `weight` it shares, is the first half of it; the two cannot be used
            together. u^m does not see the drops of OPM and ModDrop.

Preset `released` follows the code of GeWu-Lab/BalanceBenchmark at 4c1482f: in the place of the divergence stands
s^weak (ln s^weak - s^strong) of the true class alone, and all of it, w too, has a gradient. It is for two modalities.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..ground.task import at_least_float32
from .base import Title
from .config import check_range, option
from .multi_loss import MultiLoss, MultiLossConfig
from .step import MicroBatch, Needs, Step


@dataclass
class MBSDConfig(MultiLossConfig):
    """Options of MBSD.

    Args:
        heads: see [`MultiLossConfig`].
        weight: see [`MultiLossConfig`], > 0.
        distance: weight of the squared distance of the logits, at least 0.
        distillation: weight of the divergence, at least 0.
        form: `"paper"`, or `"released"`: see the module.
    """

    distance: float = option(1.0, "Weight of the squared distance of logits, at least 0.", "[0, inf)")
    distillation: float = option(1.0, "Weight of the divergence from the better modality, at least 0.", "[0, inf)")
    form: str = option("paper", "Of the divergence, and what is constant: paper, released.", ("paper", "released"))

    RELEASED: ClassVar[dict[str, Any]] = {"form": "released"}

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("weight", self.weight, "(0, inf)")


def distances_and_divergences(
    first: Tensor, second: Tensor, scores: tuple[Tensor, Tensor], right: Tensor
) -> tuple[Tensor, Tensor]:
    """`w ||u^1 - u^2||^2 / C` and `w KL(p^strong || p^weak)`.

    Args:
        first, second: u^1 and u^2, `(..., num_labels)`, with a graph.
        scores: s^1 and s^2, `(...)`, detached.
        right: bool `(...)`, whether one of the two is right.

    Returns:
        both `(...)`, float32 or better.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[9.0, 1.0]]).log(), torch.tensor([[1.5, 1.0]]).log()
        >>> scores = torch.tensor([0.9]), torch.tensor([0.6])
        >>> distances_and_divergences(*logits, scores, torch.tensor([True]))
        (tensor([0.4816]), tensor([0.0679]))
    """
    weights = torch.where(right, (scores[0] - scores[1]).abs(), 0.0)
    first, second = at_least_float32(first), at_least_float32(second)
    first_is_strong = (scores[0] >= scores[1]).unsqueeze(-1)
    logs = first.log_softmax(-1), second.log_softmax(-1)
    strong = torch.where(first_is_strong, *logs).detach()
    weak = torch.where(first_is_strong, *logs[::-1])
    divergences = (strong.exp() * (strong - weak)).sum(-1)
    return weights * (first - second).square().mean(-1), weights * divergences


def released_distances_and_divergences(
    first: Tensor, second: Tensor, labels: Tensor, right: Tensor
) -> tuple[Tensor, Tensor]:
    """As `distances_and_divergences`, with `s^weak (ln s^weak - s^strong)` as divergence, and nothing constant.

    Args:
        first, second: `(..., num_labels)`, with a graph.
        labels: class indices `(...)`.
        right: bool `(...)`, whether one of the two is right.
    """
    first, second = at_least_float32(first), at_least_float32(second)
    logs = [u.log_softmax(-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1) for u in (first, second)]
    strong, weak = torch.maximum(*logs), torch.minimum(*logs)
    weights = torch.where(right, strong.exp() - weak.exp(), 0.0)
    return weights * (first - second).square().mean(-1), weights * weak.exp() * (weak - strong.exp())


class MBSD(MultiLoss):
    """Draws the modalities' own predictions towards the better one of each sample.

    Logs `mbsd/loss_<m>`, `mbsd/distance` and `mbsd/divergence`, without their weights.
    """

    name = "mbsd"
    config_class = MBSDConfig
    config: MBSDConfig
    titles: ClassVar = {
        **MultiLoss.titles,
        "distance": Title("weighted distance of logits"),
        "divergence": Title("weighted divergence", None),
    }

    def bind(self, modalities: Sequence[str]) -> None:
        super().bind(modalities)
        if self.config.form == "released" and len(modalities) > 2:
            raise ValueError(
                f"mbsd with form: released is defined for two modalities, found {list(modalities)}. Use form: paper."
            )

    def needs(self, modalities: Sequence[str]) -> Needs:
        by_number = self.config.form == "released"
        return super().needs(modalities) | Needs(classes=True, class_numbers=by_number)

    def forward_losses(self, features: dict[str, Tensor], batch: MicroBatch, step: Step) -> dict[str, Tensor]:
        logits = self.own_logits(batch)
        losses = self.own_losses(logits, batch)
        pairs = [self._terms(batch, logits, *pair) for pair in itertools.combinations(logits, 2)]
        if not pairs:
            return losses
        distance, divergence = (torch.stack(terms).mean() for terms in zip(*pairs, strict=True))
        logged = {"mbsd/distance": distance, "mbsd/divergence": divergence}
        self.means.add({name: value.detach() / batch.weight for name, value in logged.items()})
        return {**losses, self.name: self.config.distance * distance + self.config.distillation * divergence}

    def _terms(self, batch: MicroBatch, logits: dict[str, Tensor], first: str, second: str) -> list[Tensor]:
        """The means over the labelled samples that have both modalities, 0-d."""
        both = logits[first], logits[second]
        right = torch.stack([batch.task.correct(own.detach(), batch.labels) for own in both]).any(0)
        if self.config.form == "paper":
            scores = batch.score(both[0]), batch.score(both[1])
            found = distances_and_divergences(*both, scores, right)
        else:
            found = released_distances_and_divergences(*both, batch.labels, right)
        present = None if batch.modality_mask is None else batch.present(first) & batch.present(second)
        return [batch.mean(values, present) for values in found]
