"""LFM, label fitting and modality alignment: first let the modalities agree, then fit the labels.

Yang et al. 2024, "Facilitating multimodal classification via dynamically learning modality gap" (NeurIPS). With p^m
the prediction of one modality and JS the Jensen-Shannon divergence, averaged over the pairs of modalities,

    L = 2 (alpha CE + (1 - alpha) JS(p^1, p^2)),     alpha in [0.05, 0.95]

Usage:      `modulations: {lfm: {}}`
Values:     `schedule: fitted`, the authors' polynomial for 200 epochs, stretched to the length of the run. `linear`,
            from 0.05 to 0.95, and `learned` are ours. The authors train at a learning rate of 0.01.
Relations:  p^m is of the modality's own classifier where the model trains such (auxiliary_loss_weight), else of the
            joint head's share; the authors average two such classifiers, here CE is of the model's own prediction. The
            losses of other methods keep their weights, and count as CE where alpha is learned.
Limits:     `learned` needs the whole model on every process, and a backward pass more a step. With one optimizer step
            an epoch its alpha moves every second epoch only, by gradients of the same samples.

`schedule: learned` follows the exact gradient of a look-ahead by one step of plain SGD: with g_cls and g_align the
gradients of CE and JS in the first step of an epoch, eta the learning rate, and g_val that of CE in the next step, on
samples that the first one has not seen,

    alpha <- clip(alpha + alpha_rate eta g_val . (g_cls - g_align), 0.05, 0.95)

Preset `released` follows the authors' code in the divergence, whose arguments it swaps.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from .base import Modulation, Title
from .config import ModulationConfig, option
from .divergence import jensen_shannon
from .step import JOINT, Gradients, MicroBatch, Needs, Step

LOW, HIGH = 0.05, 0.95
FITTED = (2.04623704e-01, 3.35472727e-03, 1.22989557e-04, -2.92947416e-06, 2.23835486e-08, -5.39717505e-11)
FITTED_EPOCHS = 200


@dataclass
class LFMConfig(ModulationConfig):
    """Options of LFM.

    Args:
        schedule: of alpha: `"fitted"`, `"linear"` or `"learned"`.
        initial: the first alpha of `"learned"`, in [0.05, 0.95].
        alpha_rate: how fast `"learned"` moves, > 0.
        divergence: `"jensen_shannon"`, or `"swapped"`: with the arguments of both divergences swapped (released code).
    """

    schedule: str = option(
        "fitted", "Of the label loss's weight: fitted, linear, learned.", ("fitted", "linear", "learned")
    )
    initial: float = option(LOW, "First weight of schedule: learned, in [0.05, 0.95].", f"[{LOW}, {HIGH}]")
    alpha_rate: float = option(1.0, "How fast schedule: learned moves, > 0.", "(0, inf)")
    divergence: str = option("jensen_shannon", "Divergence: jensen_shannon or swapped.", ("jensen_shannon", "swapped"))

    RELEASED: ClassVar[dict[str, Any]] = {"divergence": "swapped"}


def fitted_weight(epoch: float) -> float:
    """The authors' polynomial for the weight of the label loss, of an epoch in [0, 200].

    Example:
        >>> round(fitted_weight(100), 6)
        0.539155
    """
    return sum(coefficient * epoch**power for power, coefficient in enumerate(FITTED))


def looked_ahead(
    alpha: Tensor, rate: float, validation: Sequence[Tensor], labels: Sequence[Tensor], alignment: Sequence[Tensor]
) -> Tensor:
    """`clip(alpha + rate g_val . (g_cls - g_align), 0.05, 0.95)`, 0-d.

    Args:
        alpha: 0-d.
        rate: alpha_rate times the learning rate.
        validation: g_val, by parameter.
        labels: g_cls.
        alignment: g_align.

    Example:
        >>> import torch
        >>> g_val, g_cls, g_align = ([torch.tensor(g)] for g in ([1.0, 2.0], [1.0, 0.0], [0.0, 1.0]))
        >>> looked_ahead(torch.tensor(0.5), 0.5 * 0.1, g_val, g_cls, g_align)
        tensor(0.4500)
    """
    products = [(v * (c - a)).sum() for v, c, a in zip(validation, labels, alignment, strict=True)]
    return (alpha + rate * torch.stack(products).sum().to(alpha)).clamp(LOW, HIGH)


class LFM(Modulation):
    """Weighs the joint loss against the divergence of the modalities' predictions.

    Logs `lfm/weight`, alpha, and `lfm/divergence`.
    """

    name = "lfm"
    config_class = LFMConfig
    config: LFMConfig
    phase = "add_losses"
    compares_modalities = True
    kept = ("epoch", "learned", "seen")
    titles: ClassVar = {
        "weight": Title("weight of the label loss", 0, 1),
        "divergence": Title("divergence of the modalities"),
    }

    def needs(self, modalities: Sequence[str]) -> Needs:
        if len(modalities) < 2:
            return Needs()
        learns = self.config.schedule == "learned"
        return Needs(
            unimodal_graph=True,
            classes=True,
            gradients=learns,
            whole_model=learns,
            optimizer=learns,
            separate_gradients=(self.name,) if learns else (),
        )

    def forget(self) -> None:
        self._epoch = -1
        self._learned: Tensor | None = None
        self._seen: dict[str, list[Tensor]] = {}  # g_cls and g_align, from an epoch's first step to its second

    def _weight(self, step: Step, like: Tensor) -> Tensor:
        """alpha, 0-d."""
        if self.config.schedule == "learned":
            if self._learned is None:
                self._learned = torch.full_like(like.detach(), self.config.initial)
            return self._learned
        progress = step.step / max(step.max_steps, 1)
        linear = LOW + (HIGH - LOW) * progress
        value = fitted_weight(FITTED_EPOCHS * progress) if self.config.schedule == "fitted" else linear
        return torch.full_like(like.detach(), min(max(value, LOW), HIGH))

    def forward_losses(self, features: dict[str, Tensor], batch: MicroBatch, step: Step) -> dict[str, Tensor]:
        if len(step.modalities) == 1:
            return {}
        found = []
        for (first, own), (second, other) in itertools.combinations(batch.unimodal_graph.items(), 2):
            masks = [mask for mask in (batch.present(first), batch.present(second)) if mask is not None]
            each = jensen_shannon(own, other, self.config.divergence == "swapped")
            found.append(batch.mean(each, torch.stack(masks).all(0) if masks else None))
        divergence = torch.stack(found).mean()
        weight = batch.scratch[self.name] = self._weight(step, divergence)
        self.means.add({"lfm/weight": weight, "lfm/divergence": divergence.detach() / batch.weight})
        return {self.name: 2 * (1 - weight) * divergence}

    def modulate_losses(self, losses: dict[str, Tensor], batch: MicroBatch, step: Step) -> dict[str, Tensor]:
        if len(step.modalities) == 1:
            return losses
        return {**losses, JOINT: 2 * batch.scratch[self.name] * losses[JOINT]}

    @torch.no_grad()
    def modulate_gradients(self, gradients: Gradients, step: Step) -> None:
        if self.config.schedule != "learned" or len(step.modalities) == 1:
            return
        alpha, scale = self._learned, 1.0 if step.gradient_scale is None else step.gradient_scale
        if self._seen:
            joint = [g for group in gradients.of(JOINT).values() for g in group]
            rate = self.config.alpha_rate * step.optimizer.param_groups[0]["lr"]
            validation = [g / (2 * alpha * scale) for g in joint]
            self._learned = looked_ahead(alpha, rate, validation, self._seen["labels"], self._seen["alignment"])
            self._seen = {}
        elif int(step.epoch) != self._epoch:
            joint, alignment = ([g for group in gradients.of(n).values() for g in group] for n in (JOINT, self.name))
            self._seen = {
                "labels": [g / (2 * alpha * scale) for g in joint],
                "alignment": [g / (2 * (1 - alpha) * scale) for g in alignment],
            }
            self._epoch = int(step.epoch)
