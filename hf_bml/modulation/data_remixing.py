"""Data remixing: after a warm-up, each sample trains only the modality that is least sure of it (Ma et al. 2025).

    warm-up:     L = CE(f(x), y) + weight * sum_m CE(o^m, y)
    after it:    m_i = argmin_m KL(p_i^m || uniform),     L_i = CE(f(x_i^{m_i}), y_i) + CE(o_i^{m_i}, y_i)

p^m is what modality m alone predicts, o^m its share of the joint head, and f(x^m) the joint prediction without the
other modalities. The samples of a modality are put together in batches of their own, so that no batch mixes gradients
of several.

Usage:      `modulations: {data_remixing: {}}`; `{assignment: batch}` needs no pass over the data, and with `warmup: 0`
            works on streams
Values:     `warmup: 10` and `weight: 0.5` are the authors' code's.
Cost:       a pass over the training split before every epoch after the warm-up; none with `assignment: batch`, which
            assigns by the current predictions of a batch and leaves its samples together.
Relations:  it adds a loss per modality, as multi_loss does, so the two exclude each other. Classifiers of single
            modalities that the model trains (auxiliary_loss_weight) see all samples, after the warm-up, too.

Preset `released` follows the order of the authors' code, in which all batches of one modality come before those of the
next (here in the model's order); by default they alternate at random. Our reading: windows of an optimizer step are of
one modality, but for the rest that fills none; a sample is assigned to a modality that it has; with labels by segment,
the divergence is the mean over the segments; with a single modality the warm-up goes on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..ground.task import at_least_float32
from .base import Modulation, Title
from .config import ModulationConfig, option
from .step import EpochPlan, MicroBatch, Needs, Step, seeded_generator


@dataclass
class DataRemixingConfig(ModulationConfig):
    """Options of data remixing.

    Args:
        warmup: epochs before samples are assigned, at least 0.
        weight: of the modalities' summed losses in the warm-up, at least 0.
        assignment: `"epoch"`: by the predictions of all samples before an epoch; `"batch"`: by those of a micro-batch.
        batches: of an epoch that is assigned: `"one_modality"`, in random order; `"in_turn"`, one modality after the
            other; or `"mixed"`.
    """

    warmup: float = option(10, "Epochs before samples are assigned to a modality.", "[0, inf]")
    weight: float = option(0.5, "Of the modalities' summed losses in the warm-up, >= 0.", "[0, inf)")
    assignment: str = option("epoch", "When samples are assigned: before an epoch, or batch.", ("epoch", "batch"))
    batches: str = option(
        "one_modality",
        "What a batch holds: one_modality, in_turn (sorted), or mixed.",
        ("one_modality", "in_turn", "mixed"),
    )

    RELEASED: ClassVar[dict[str, Any]] = {"batches": "in_turn"}


def divergences(logits: Tensor) -> Tensor:
    """`KL(p || uniform)`, in nats: how sure a prediction is, whatever the truth.

    Args:
        logits: `(samples, num_labels)`, or `(samples, segments, num_labels)`.

    Returns:
        `(samples,)` in [0, ln num_labels], float32 or better; the mean over the segments if there are any.

    Example:
        >>> divergences(torch.tensor([[9.0, 1.0], [1.0, 1.0]]).log())
        tensor([0.3681, 0.0000])
    """
    logs = at_least_float32(logits).log_softmax(-1)
    found = (logs.exp() * logs).sum(-1) + math.log(logits.shape[-1])
    return found.flatten(1).mean(1) if found.dim() > 1 else found


def least_sure(logits: Sequence[Tensor], present: Tensor | None = None) -> Tensor:
    """Which modality each sample trains, int64 `(samples,)`; the first of equal ones.

    Args:
        logits: of each modality, as of `divergences`.
        present: optional bool `(samples, modalities)`; a modality that a sample lacks is not chosen.
    """
    sureness = torch.stack([divergences(each) for each in logits], dim=1)
    return (sureness if present is None else sureness.masked_fill(~present, math.inf)).argmin(1)


def arranged(assigned: Tensor, window: int, batches: str, generator: torch.Generator) -> Tensor:
    """The order in which an epoch reads its samples, int64 `(samples,)`, numbers of samples.

    Args:
        assigned: the modality of each sample, int64 `(samples,)`.
        window: samples of an optimizer step.
        batches: `"one_modality"`: windows of one modality in random order, with the samples that fill none of their
            own in some windows more; `"in_turn"`: sorted by modality; `"mixed"`: at random.
        generator: on the CPU.
    """
    order = torch.randperm(len(assigned), generator=generator)
    if batches == "mixed":
        return order
    order = order[assigned[order].argsort(stable=True)]
    if batches == "in_turn":
        return order
    whole, rest = [], []
    for samples in order.split(assigned.bincount().tolist()):
        cut = len(samples) // window * window
        whole += samples[:cut].split(window) if cut else []
        rest.append(samples[cut:])
    left = torch.cat(rest)
    cut = len(left) // window * window
    whole += left[:cut].split(window) if cut else []
    shuffled = [whole[number] for number in torch.randperm(len(whole), generator=generator)]
    return torch.cat([*shuffled, left[cut:]])


class DataRemixing(Modulation):
    """Trains with each sample only the modality that is least sure of it.

    Logs `data_remixing/assigned_<m>` (share of the main process's samples that train it) and, in the warm-up,
    `data_remixing/loss_<m>`, without the weight.
    """

    name = "data_remixing"
    config_class = DataRemixingConfig
    config: DataRemixingConfig
    phase = "add_losses"
    kept = ("is_planned",)
    titles: ClassVar = {
        "assigned": Title("share of samples assigned", 0, 1),
        "loss": Title("loss of one modality"),
    }
    example_options: ClassVar = {"warmup": 1}

    def needs(self, modalities: Sequence[str]) -> Needs:
        return Needs(head_graph=True, classes=True, current_logits=self.config.assignment == "batch")

    @property
    def plans_epochs(self) -> bool:
        return self.config.assignment == "epoch"

    @property
    def first_epoch(self) -> float:
        return self.config.warmup

    @property
    def options_in_epochs(self) -> list[str]:
        return [*super().options_in_epochs, *([f"warmup={self.config.warmup:g}"] if self.config.warmup else [])]

    def forget(self) -> None:
        self._is_planned = False

    def plan_epoch(self, epoch: int) -> EpochPlan | None:
        modalities = self.means.modalities
        self._is_planned = epoch >= self.config.warmup and len(modalities) > 1
        if not self._is_planned:
            return None
        found = self._run.collect("train", ["unimodal_logits", "keep_mask"])
        logits = [found[f"unimodal_logits_{name}"] for name in modalities]
        assigned = least_sure(logits, found["keep_mask"].bool())
        generator = seeded_generator(self.name, torch.device("cpu"), self._run.seed, epoch)
        order = arranged(assigned, self._run.window, self.config.batches, generator)
        keep = torch.nn.functional.one_hot(assigned[order], len(modalities)).bool()
        return EpochPlan(order, keep, shuffled=False)

    def _is_remixed(self, step: Step) -> bool:
        if self.config.assignment == "epoch":
            return self._is_planned
        return step.epoch >= self.config.warmup and len(step.modalities) > 1

    @torch.no_grad()
    def keep_modalities(self, batch: MicroBatch, keep_mask: Tensor | None, step: Step) -> Tensor | None:
        if self.config.assignment == "epoch" or not self._is_remixed(step):
            return keep_mask
        logits = list(batch.unimodal_logits.values())
        keep = torch.nn.functional.one_hot(least_sure(logits, keep_mask), len(logits)).bool()
        return keep if keep_mask is None else keep & keep_mask

    def modulate_features(
        self, features: dict[str, Tensor], batch: MicroBatch, keep_mask: Tensor | None, step: Step
    ) -> dict[str, Tensor]:
        if self._is_remixed(step):
            batch.scratch[self.name] = keep_mask
            self.means.add({f"{self.name}/assigned": keep_mask.float().mean(0)})
        return features

    def forward_losses(self, features: dict[str, Tensor], batch: MicroBatch, step: Step) -> dict[str, Tensor]:
        if self.name in batch.scratch:
            own = torch.stack(list(batch.head_graph.values()), dim=1)  # (batch, modalities, ...)
            assigned = batch.scratch[self.name].long().argmax(1)
            return {self.name: batch.loss(own[torch.arange(len(own), device=own.device), assigned])}
        if not self.config.weight:
            return {}
        losses = {name: batch.loss(own, batch.present(name)) for name, own in batch.head_graph.items()}
        self.means.add({f"{self.name}/loss": torch.stack([loss.detach() for loss in losses.values()])})
        return {name: self.config.weight * loss for name, loss in losses.items()}
