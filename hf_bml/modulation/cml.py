"""CML, calibrating multimodal learning: a prediction must not become more confident when a modality is taken away.

Ma et al., ICML 2023. In a random order the modalities are removed one by one, S_0 = all, ..., S_{M-1} = the last. With
conf the largest softmax probability, and f(S) what the head predicts with the features outside S at zero:

    L = (1/M) sum_t loss(f(S_t)) + weight sum_t mean_i max(0, conf_i(S_{t+1}) - conf_i(S_t))

Usage:      `modulations: {cml: {}}`
Values:     weight 0.1; search 0.01...1 on a validation split.
Relations:  what OPM or ModDrop has dropped is not in S_0. `multi_loss` trains single modalities without the order.
Limits:     one pass of the head for every modality but one. With `head_dropout` the confidences carry its noise.

Of a sample that lacks modalities only those that it has are removed: the t-th loss is the mean over the samples that
have more than t of them. That, and a new order at every step, is our choice. Both sides of the comparison have a
gradient.

Preset `released` follows the code of GeWu-Lab/BalanceBenchmark at 4c1482f: the order is drawn once per epoch, and the
confidences are summed over a micro-batch before they are compared, so that `accumulation` is per micro-batch.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..ground.task import at_least_float32, both
from .base import Modulation, Title
from .config import ModulationConfig, option
from .step import JOINT, MicroBatch, Needs, Step


@dataclass
class CMLConfig(ModulationConfig):
    """Options of CML.

    Args:
        weight: of what confidence rises by, at least 0.
        order: whether the order is drawn for every `"step"` or every `"epoch"`.
        compare: the confidences of each `"sample"`, or their sum over a micro-batch, `"batch"`.
    """

    weight: float = option(0.1, "Weight of what confidence rises by, at least 0.", "[0, inf)")
    order: str = option("step", "How often the order of removal is drawn: step or epoch.", ("step", "epoch"))
    compare: str = option("sample", "Whose confidences are compared: sample, or batch.", ("sample", "batch"))

    RELEASED: ClassVar[dict[str, Any]] = {"order": "epoch", "compare": "batch"}


def confidences(logits: Tensor) -> Tensor:
    """The largest softmax probability of each prediction, `(batch, ...)`, with a graph.

    Args:
        logits: `(batch, ..., num_labels)`.

    Example:
        >>> import torch
        >>> confidences(torch.tensor([[2.0, 0.0], [-1.0, 0.0]]))
        tensor([0.8808, 0.7311])
    """
    return at_least_float32(logits).softmax(-1).amax(-1)


def kept_after(removed: int, order: Sequence[int], present: Tensor) -> Tensor:
    """What is left of each sample's modalities when those that it has are removed in an order.

    Args:
        removed: how many.
        order: the columns of `present`.
        present: bool `(batch, modalities)`.

    Returns:
        bool `(batch, modalities)`; without any where a sample has no more than `removed`.
    """
    rank = present[:, order].cumsum(1)
    kept = present.clone()
    kept[:, order] = present[:, order] & (rank > removed)
    return kept


class CML(Modulation):
    """Trains all sets of a random order of removal, and holds rising confidences down.

    Logs `cml/rise`, what the confidences rise by, summed over the order, without the weight.
    """

    name = "cml"
    config_class = CMLConfig
    config: CMLConfig
    phase = "add_losses"
    titles: ClassVar = {"rise": Title("rise of confidence")}

    @property
    def accumulation(self) -> str:
        return "exact" if self.config.compare == "sample" else "per_micro_batch"

    def needs(self, modalities: Sequence[str]) -> Needs:
        return Needs(fuse=True, head_graph=True, classes=True)

    @property
    def options_in_epochs(self) -> list[str]:
        return [*super().options_in_epochs, *(["order=epoch"] if self.config.order == "epoch" else [])]

    def begin_step(self, step: Step) -> None:
        drawn_for = step.step if self.config.order == "step" else int(step.epoch)
        self._order = list(range(len(step.modalities)))
        random.Random(f"{self.name} {step.seed} {drawn_for}").shuffle(self._order)  # the same on every process

    def modulate_features(
        self, features: dict[str, Tensor], batch: MicroBatch, keep_mask: Tensor | None, step: Step
    ) -> dict[str, Tensor]:
        everything = torch.ones(len(batch.labels), len(features), dtype=torch.bool, device=batch.labels.device)
        batch.scratch[self.name] = everything if keep_mask is None else keep_mask
        return features

    def forward_losses(self, features: dict[str, Tensor], batch: MicroBatch, step: Step) -> dict[str, Tensor]:
        present = batch.scratch[self.name]
        losses, stages = {}, []
        for removed in range(1, len(features)):
            logits = batch.fuse(batch.features, kept_after(removed, self._order, present))
            counts = present.sum(1) > removed
            losses[f"{self.name}_{removed}"] = batch.loss(logits, counts) / len(features)
            stages.append((logits, counts))
        batch.scratch[self.name] = stages
        return losses

    def modulate_losses(self, losses: dict[str, Tensor], batch: MicroBatch, step: Step) -> dict[str, Tensor]:
        stages = [(batch.output["logits"], None), *batch.scratch[self.name]]
        if len(stages) == 1:
            return losses
        rises = [
            self._rise(batch.by_sample(confidences(fewer) - confidences(more)), counts, batch)
            for (more, _), (fewer, counts) in itertools.pairwise(stages)
        ]
        rise = torch.stack(rises).sum()
        self.means.add({"cml/rise": rise.detach() / batch.weight})
        return {**losses, JOINT: losses[JOINT] / len(stages), self.name: self.config.weight * rise}

    def _rise(self, differences: Tensor, counts: Tensor, batch: MicroBatch) -> Tensor:
        if self.config.compare == "sample":
            return batch.mean(differences.clamp_min(0), counts)
        counts = both(counts, batch.task.labelled(batch.labels))
        return batch.weight * torch.where(counts, differences, 0.0).sum().clamp_min(0)
