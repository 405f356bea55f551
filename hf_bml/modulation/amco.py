"""AMCo: mask a random part of what the modality says that the prediction depends on, more of it as training goes on.

A modality's share of a prediction, and the strength of the mask after a share l of the training, are

    a_i^m = sum_k exp(o_ik^m) / sum_j sum_k exp(o_ik^j),      p = sin(pi / 2 min(1, l / ramp))

where o^m is the modality's share of the joint logits, such as W^m phi^m + b/M. The joint prediction depends on m if
the mean of a^m over the last optimizer step exceeds `threshold`; then floor(p C) of the C classes are drawn, and o^m
of these counts as 0 in the joint logits. L = CE(masked joint logits, y) + sum_m CE(o^m, y).

Usage:      `modulations: {amco: {}}`; `{level: features}` sets floor(p D) of a feature's D units to zero instead
Values:     `ramp: 0.3` and, of two modalities, `threshold: 0.5` are BalanceBenchmark's.
Relations:  it adds a loss per modality, as multi_loss does, so the two exclude each other. OPM drops whole modalities,
            by how right they are; here it is by how much they say.
Limits:     `level: logits` takes off what the head makes of the features as they came. With `head_dropout`, or beside
            methods that change features, such as `dropout`, the joint logits hold something else, so that a masked
            class does not count as exactly 0; `level: features` masks what the head itself sees.

The equations are those of BalanceBenchmark (GeWu-Lab/BalanceBenchmark at 4c1482f). Preset `released` follows its
schedule: in epoch n, l grows by n / 10 at every step, from 0, so that from epoch 3 on all classes are masked from the
second step on. The linear layer that it puts behind the sum is not part of either. Our reading: the drawn classes are
those of an optimizer step, for all its samples and processes; a share is that among the modalities that a sample has,
of the samples that have two or more; the threshold for more than two modalities; heads that do not split their logits
exactly lose what the modality predicts alone; and `level: features`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..ground.task import at_least_float32
from .base import Modulation, Title
from .config import ModulationConfig, option
from .step import JOINT, MicroBatch, Needs, Step, seeded_generator

EPOCHS_TO_ONE = 10  # of the schedule by epoch


@dataclass
class AMCoConfig(ModulationConfig):
    """Options of AMCo.

    Args:
        threshold: mean share above which the prediction depends on a modality, in [0, 1]; None for 0.5 of two
            modalities, and 1.5 / M of more.
        ramp: l at which everything is masked, > 0.
        level: what is masked: `"logits"` or `"features"`.
        schedule: what l is: `"training"`, the share of the training that is done; or `"epoch"`, see `released` above.
    """

    threshold: float | None = option(
        None, "Share above which the prediction depends on a modality; null: by number.", "[0, 1]"
    )
    ramp: float = option(0.3, "Progress at which everything is masked, > 0.", "(0, inf]")
    level: str = option("logits", "What is masked: logits or features.", ("logits", "features"))
    schedule: str = option("training", "What the mask grows over: the training or an epoch.", ("training", "epoch"))

    RELEASED: ClassVar[dict[str, Any]] = {"schedule": "epoch"}


def share_sums(logits: Mapping[str, Tensor], present: Tensor | None = None) -> Tensor:
    """`(2, modalities)`: the summed shares of a micro-batch, and of how many samples they are.

    Args:
        logits: per modality `(batch, num_labels)`, or `(batch, segments, num_labels)`, over whose segments a share is
            the mean.
        present: optional bool `(batch, modalities)`; a sample that has fewer than two modalities does not count.

    Example:
        >>> one = {"audio": torch.tensor([[9.0, 1.0]]).log(), "visual": torch.tensor([[1.5, 1.0]]).log()}
        >>> share_sums(one)
        tensor([[0.8000, 0.2000],
                [1.0000, 1.0000]])
    """
    sizes = torch.stack([at_least_float32(each.detach()).logsumexp(-1) for each in logits.values()])
    sizes = sizes.flatten(2) if sizes.dim() > 2 else sizes.unsqueeze(2)  # (modalities, batch, segments)
    counts = torch.ones_like(sizes[:, :, 0], dtype=torch.bool) if present is None else present.T
    counts = counts & (counts.sum(0) > 1)
    shares = sizes.masked_fill(~counts.unsqueeze(2), -math.inf).softmax(0).mean(2)
    return torch.stack([torch.where(counts, shares, 0.0).sum(1), counts.sum(1)])


def masked_fraction(progress: float, ramp: float) -> float:
    """`p = sin(pi / 2 min(1, l / ramp))`.

    Example:
        >>> [round(masked_fraction(progress, 0.3), 4) for progress in (0, 0.1, 0.2, 0.3, 1)]
        [0.0, 0.5, 0.866, 1.0, 1.0]
    """
    return math.sin(math.pi / 2 * min(1.0, progress / ramp))


def masked_count(fraction: float, size: int) -> int:
    """`floor(p C)`, of which rounding takes none away.

    Example:
        >>> [masked_count(fraction, 6) for fraction in (0, 0.5, 0.866, 1)]
        [0, 3, 5, 6]
    """
    return math.floor(fraction * size + 1e-9)


class AMCo(Modulation):
    """Masks a part of the modality that the joint prediction depends on, and adds a loss per modality.

    Logs `amco/share_<m>` (mean of a, of the main process's samples), `amco/masked_<m>` (p where the prediction depends
    on the modality, else 0) and `amco/loss_<m>`.
    """

    name = "amco"
    config_class = AMCoConfig
    config: AMCoConfig
    phase = "add_losses"
    kept = ("shares", "epoch", "first_step")
    titles: ClassVar = {
        "share": Title("share of the prediction", 0, 1),
        "masked": Title("masked part", 0, 1),
        "loss": Title("loss of one modality"),
    }

    def needs(self, modalities: Sequence[str]) -> Needs:
        return Needs(head_graph=True, classes=True)

    def forget(self) -> None:
        self._shares: Tensor | None = None  # of the last step, (modalities,)
        self._epoch, self._first_step = -1, 0  # and the first step in it
        self._fraction = 0.0

    @property
    def threshold(self) -> float:
        """Above which share a modality is masked."""
        if self.config.threshold is not None:
            return self.config.threshold
        count = len(self.means.modalities)
        return 0.5 if count < 3 else 1.5 / count

    def begin_step(self, step: Step) -> None:
        if int(step.epoch) != self._epoch:
            self._epoch, self._first_step = int(step.epoch), step.step
        if self.config.schedule == "training":
            progress = step.step / step.max_steps
        else:
            progress = self._epoch / EPOCHS_TO_ONE * (step.step - self._first_step)
        self._fraction = masked_fraction(progress, self.config.ramp)

    def end_step(self, step: Step) -> None:
        sums, counts = step.total(f"{self.name}/shares")
        self._shares = sums / counts.clamp_min(1)

    def _masks(self, sizes: Mapping[str, int], step: Step, device: torch.device) -> dict[str, Tensor]:
        """Which classes, or units, are masked in this step, bool `(size,)` by modality; the same on all processes."""
        depends = torch.zeros(len(sizes), dtype=torch.bool, device=device)
        if self._shares is not None:
            depends = self._shares > self.threshold
        self.means.add({f"{self.name}/masked": depends * self._fraction})
        generator = seeded_generator(self.name, device, step.seed, step.step)
        masks = {}
        for (modality, size), is_masked in zip(sizes.items(), depends.unbind(), strict=True):
            places = torch.rand(size, device=device, generator=generator).argsort().argsort()
            masks[modality] = (places < masked_count(self._fraction, size)) & is_masked
        return masks

    def modulate_features(
        self, features: dict[str, Tensor], batch: MicroBatch, keep_mask: Tensor | None, step: Step
    ) -> dict[str, Tensor]:
        batch.scratch[self.name] = keep_mask
        if self.config.level == "logits":
            return features
        sizes = {name: feature.shape[-1] for name, feature in features.items()}
        masks = self._masks(sizes, step, batch.labels.device)
        return {name: torch.where(masks[name], 0.0, feature) for name, feature in features.items()}

    def forward_losses(self, features: dict[str, Tensor], batch: MicroBatch, step: Step) -> dict[str, Tensor]:
        logits = batch.head_graph
        if self.config.level == "logits":
            batch.scratch[self.name] = self._masked_part(logits, batch.scratch[self.name], step)
        sums = share_sums(logits, batch.modality_mask)
        step.add(f"{self.name}/shares", sums)
        losses = {name: batch.loss(own, batch.present(name)) for name, own in logits.items()}
        own_losses = torch.stack([loss.detach() for loss in losses.values()])
        self.means.add({f"{self.name}/share": sums[0] / sums[1].clamp_min(1), f"{self.name}/loss": own_losses})
        return losses

    def _masked_part(self, logits: Mapping[str, Tensor], keep: Tensor | None, step: Step) -> Tensor:
        """What the joint logits lose, `(batch, ...)`, with a graph."""
        example = next(iter(logits.values()))
        masks = self._masks({name: own.shape[-1] for name, own in logits.items()}, step, example.device)
        parts = []
        for column, (name, own) in enumerate(logits.items()):
            mask = masks[name]
            if keep is not None:  # what others dropped is not there to be masked
                mask = mask & keep[:, column].view(-1, *[1] * (own.dim() - 1))
            parts.append(torch.where(mask, at_least_float32(own), 0.0))
        return torch.stack(parts).sum(0)

    def modulate_losses(self, losses: dict[str, Tensor], batch: MicroBatch, step: Step) -> dict[str, Tensor]:
        if self.config.level == "features":
            return losses
        logits = at_least_float32(batch.output["logits"])
        change = batch.loss(logits - batch.scratch[self.name]) - batch.loss(
            logits
        )  # whatever else is in the joint one
        return {**losses, JOINT: losses[JOINT] + change}
