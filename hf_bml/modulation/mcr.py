"""MCR, multimodal competition regularizer: the prediction should change when a modality's feature is exchanged.

Kontras et al. 2025, "Balancing multimodal training through game-theoretic regularization" (NeurIPS). With p what the
head predicts, and phi~^m the features of modality m permuted within the micro-batch,

    L = CE + unimodal_weight sum_m CE^m - weight sum_m JS( p(phi), p(phi~^m, phi^{-m}) )

The modalities play a game for the second sum: in the term of m, the encoders of the others get k times their gradient.

Usage:      `modulations: {mcr: {weight: 1.0}}`
Values:     weight and unimodal_weight 1; the authors set them for each data set: search 0.1...10 on a validation
            split.
            `game: greedy` (k = -1, the others resist), `independent` (0) or `collaborative` (1).
Relations:  CE^m is of the modality's own classifier where the model trains such (auxiliary_loss_weight), else of the
            joint head's share, as in multi_loss, which it contains and excludes; it takes the place of that loss, if
            unimodal_weight is not 0. Drops act on CE alone.
Cost:       2 M passes of the head a micro-batch, in the model's own mode.
Limits:     the exchange stays within a micro-batch of one process, so accumulation makes another, smaller game; a
            micro-batch of one sample has none. The authors' contrastive and CEB terms are left out.

A permutation is a random cycle through the labelled samples that have the modality, so that none keeps its own
feature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..ground.task import both
from .base import Modulation, Title
from .config import ModulationConfig, option
from .divergence import jensen_shannon
from .ogm import GradientScale
from .step import AUXILIARY, MicroBatch, Needs, Step

GAMES = {"greedy": -1.0, "independent": 0.0, "collaborative": 1.0}


@dataclass
class MCRConfig(ModulationConfig):
    """Options of MCR.

    Args:
        weight: of the divergences, >= 0.
        unimodal_weight: of the losses of the modalities' own predictions, >= 0.
        game: what the encoders of the other modalities get of a term's gradient: `"greedy"`, `"independent"` or
            `"collaborative"`.
    """

    weight: float = option(1.0, "Weight of the divergences, >= 0.", "[0, inf)")
    unimodal_weight: float = option(1.0, "Weight of the modalities' own losses, >= 0.", "[0, inf)")
    game: str = option("greedy", "Game: greedy, independent or collaborative.", GAMES)


def cycle(draws: Tensor, present: Tensor | None = None) -> Tensor:
    """A random cycle through samples: for each the one whose feature it gets, int64 `(batch,)`.

    Args:
        draws: from [0, 1), `(batch,)`.
        present: optional bool `(batch,)`; others get their own.

    Example:
        >>> import torch
        >>> cycle(torch.tensor([0.3, 0.9, 0.1]))
        tensor([1, 2, 0])
    """
    places = torch.arange(len(draws), device=draws.device)
    if present is None:
        count = len(draws)
    else:
        draws, count = torch.where(present, draws, 2.0), present.sum()
    order = draws.argsort()  # those that are present first
    following = torch.where(places + 1 < count, places + 1, 0)
    partners = order[torch.where(places < count, following, places)]
    return torch.empty_like(order).scatter_(0, order, partners)


class MCR(Modulation):
    """Adds the modalities' own losses, and rewards divergence under exchanged features.

    Logs `mcr/divergence_<m>`, in nats, at most ln 2, and `mcr/loss_<m>` of the own predictions, without the weights.
    """

    name = "mcr"
    config_class = MCRConfig
    config: MCRConfig
    phase = "add_losses"
    accumulation = "per_micro_batch"
    titles: ClassVar = {
        "divergence": Title("divergence under exchange", 0, 0.7),
        "loss": Title("loss of one modality"),
    }

    def needs(self, modalities: Sequence[str]) -> Needs:
        exchanges = bool(self.config.weight) and len(modalities) > 1
        return Needs(fuse=exchanges, classes=exchanges, unimodal_graph=bool(self.config.unimodal_weight))

    def forward_losses(self, features: dict[str, Tensor], batch: MicroBatch, step: Step) -> dict[str, Tensor]:
        config, found = self.config, {}
        if config.unimodal_weight:
            own = {name: batch.loss(logits, batch.present(name)) for name, logits in batch.unimodal_graph.items()}
            self.means.add({"mcr/loss": torch.stack([loss.detach() for loss in own.values()])})
            found = {name: config.unimodal_weight * loss for name, loss in own.items()}
        if config.weight and len(step.modalities) > 1:
            divergences = torch.stack([self._divergence(name, batch, step) for name in step.modalities])
            self.means.add({"mcr/divergence": divergences.detach() / batch.weight})
            found[self.name] = -config.weight * divergences.sum()
        return found

    def modulate_losses(self, losses: dict[str, Tensor], batch: MicroBatch, step: Step) -> dict[str, Tensor]:
        if not self.config.unimodal_weight:
            return losses
        return {name: loss for name, loss in losses.items() if name != AUXILIARY}  # which are CE^m

    def _divergence(self, exchanged: str, batch: MicroBatch, step: Step) -> Tensor:
        """The mean divergence of the labelled samples that have the modality, 0-d, with the micro-batch's weight."""
        present = both(batch.present(exchanged), batch.task.labelled(batch.labels))
        own = batch.features[exchanged]
        draws = torch.rand(len(own), device=own.device, generator=step.generator(self.name, own.device))
        times = own.new_full((), GAMES[self.config.game])
        given = {
            name: feature if name == exchanged else GradientScale.apply(feature, times)
            for name, feature in batch.features.items()
        }
        other = {**given, exchanged: own[cycle(draws, present)]}
        return batch.mean(jensen_shannon(batch.fuse(given), batch.fuse(other)), present)
