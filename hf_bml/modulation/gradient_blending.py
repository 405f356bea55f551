"""Gradient blending: weigh a loss per modality and the joint loss by how well each generalises (Wang et al. 2020).

Every modality has a classifier of its own beside the joint head. Copies of the model are trained with one loss each;
with the losses L on the training split (T) and on a part of it that is held out (V), before (0) and after (N),

    overfitting     O = L^V - L^T,   its growth    dO = O_N - O_0
    generalisation                   its growth    dG = L^V_0 - L^V_N
    weight          w_k ~ dG_k / dO_k^2,           normalised to sum 1

and the run then minimises `sum_k w_k L_k`; it predicts with the joint head. |dO| counts as at least 1e-3. A loss that
does not generalise (dG <= 0, or not finite) gets weight 0; if none does, all get the same.

Usage:      `modulations: {gradient_blending: {}}`, with `auxiliary_loss_weight: 0` in the model's config, which a
            recipe has by itself
Values:     the paper's comparison (Sec. 4.3.3, Tables 4 and 5) gives none. `mode: offline` estimates once, before the
            first step; `mode: online` anew, from the weights then reached, every `super_epoch` epochs.
            `estimation_epochs` trades the precision of the estimate for its cost.
Relations:  replaces the loss, so a weight of the auxiliary losses in the model's config has no effect. The held-out
            part, 8 % as in MultiBench, is lost to the training; validation and test splits are never touched.
Limits:     the weights are only as steady as the held-out losses. In a simulation (10 classes, 12 epochs, losses drawn
            anew) the standard deviation of a weight was 0.34 with 10 held-out rows, 0.25 with 40, 0.18 with 80, 0.11
            with 256 and 0.05 with 1000, about 1.7 / sqrt(rows). A warning says so below 300 rows, where it exceeds
            0.1, of weights that sum to 1.

All modalities' own losses are estimated on one copy: their encoders share nothing, so each learns as it would alone
(but for gradient clipping, which sees all of them). The joint loss takes a second copy, so an offline estimate of full
length costs about two trainings, where the original takes one more per modality.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..ground.task import Task, both
from .base import Modulation, Title
from .config import ModulationConfig, option
from .step import JOINT, CopyLosses, MicroBatch, Needs, Run, SampleLosses, Step

MINIMUM_OVERFITTING = 1e-3
FEW_ROWS = 300  # see "Limits" above


@dataclass
class GradientBlendingConfig(ModulationConfig):
    """Options of gradient blending.

    Args:
        mode: `"offline"`: estimate the weights once; `"online"`: once per super-epoch.
        super_epoch: epochs between two estimates in mode `"online"`, > 0.
        estimation_epochs: epochs that a copy is trained for an estimate, > 0; None for the original's choice: as long
            as the run (offline) or the super-epoch (online).
        held_out: share of the training split that is held out, in (0, 1).
    """

    mode: str = option("offline", "When to estimate the weights: offline or online.", ("offline", "online"))
    super_epoch: float = option(10.0, "Epochs between two estimates in mode online.", "(0, inf]")
    estimation_epochs: float | None = option(
        None, "Epochs to train for an estimate; null: the whole run, or the super-epoch.", "(0, inf)"
    )
    held_out: float = option(0.08, "Share of the training split to hold out, in (0, 1).", "(0, 1)")


def generalisation_gain(losses: CopyLosses) -> float:
    """`dG = L^V_0 - L^V_N`."""
    return losses.held_out_before - losses.held_out_after


def overfitting_gain(losses: CopyLosses) -> float:
    """`dO = O_N - O_0` with `O = L^V - L^T`."""
    return (losses.held_out_after - losses.train_after) - (losses.held_out_before - losses.train_before)


def blending_weights(losses: Sequence[CopyLosses]) -> list[float]:
    """The optimal blend `w_k ~ dG_k / dO_k^2`, non-negative and summing to 1.

    Args:
        losses: per classifier.

    Example:
        >>> audio, visual = CopyLosses(2.0, 2.0, 0.5, 1.2), CopyLosses(2.0, 2.0, 1.0, 1.5)
        >>> [round(weight, 4) for weight in blending_weights([audio, visual])]
        [0.4494, 0.5506]
    """
    raw = []
    for each in losses:
        gain, growth = generalisation_gain(each), max(abs(overfitting_gain(each)), MINIMUM_OVERFITTING)
        raw.append(gain / growth**2 if gain > 0 and math.isfinite(gain) and math.isfinite(growth) else 0.0)
    total = sum(raw)
    return [weight / total for weight in raw] if total else [1 / len(raw)] * len(raw)


def classifier_losses(output: Mapping[str, Any], labels: Tensor, name: str, task: Task) -> tuple[Tensor, Tensor]:
    """Losses `(batch,)` of one classifier, and bool `(batch,)`, the samples that count.

    Args:
        output: with `logits`, `auxiliary_logits` and `modality_mask` (bool `(batch, modalities)`, or None).
        labels: `(batch,)`; or `(batch, segments)`, over which a sample's loss is the mean.
        name: a modality, or `"joint"`.
        task: whose loss it is.
    """
    logits = output["logits"] if name == JOINT else output["auxiliary_logits"][name]
    mask = output.get("modality_mask")
    if name == JOINT or mask is None:
        counts = torch.ones(len(labels), dtype=torch.bool, device=labels.device)
    else:
        counts = mask[:, list(output["auxiliary_logits"]).index(name)]
    counts = both(counts, task.labelled(labels))
    return task.losses(logits, labels), counts


class GradientBlending(Modulation):
    """Minimises the blend of all classifiers' losses, with weights from side trainings.

    Logs `gradient_blending/weight_<m>`, `gradient_blending/weight_joint` and `gradient_blending/estimation_seconds`
    (so far).
    """

    name = "gradient_blending"
    config_class = GradientBlendingConfig
    config: GradientBlendingConfig
    phase = "replace_losses"
    kept = ("weights", "super_epoch", "seconds", "estimates")
    _classifiers: tuple[str, ...] = ()
    titles: ClassVar = {"weight": Title("loss weight", 0, 1)}
    example_options: ClassVar = {"mode": "online", "super_epoch": 1.0, "held_out": 0.25}

    def needs(self, modalities: Sequence[str]) -> Needs:
        options = {"auxiliary_loss_weight": 0.0}
        return Needs(whole_model=True, separate_encoders=True, own_heads=True, model_options=options)

    @property
    def held_out_fraction(self) -> float:
        return self.config.held_out

    def bind(self, modalities: Sequence[str]) -> None:
        super().bind(modalities)
        if JOINT in modalities:
            raise ValueError(f"gradient_blending calls the joint head {JOINT!r}, so no modality can have this name.")
        self._classifiers = (*modalities, JOINT)

    def attach(self, run: Run) -> None:
        if run.face.other_loss:
            raise ValueError(
                "gradient_blending minimises cross-entropies, in whose place the model's config has "
                f"{run.face.other_loss}. Set segment_loss: cross_entropy."
            )
        super().attach(run)

    def warn_if_few_held_out(self, rows: int) -> None:
        if rows < FEW_ROWS:
            warnings.warn(
                f"gradient_blending weighs the losses by what {rows} held-out rows say (held_out="
                f"{self.config.held_out:g}), which is unreliable: a weight would vary by about "
                f"{min(1.7 / math.sqrt(rows), 0.5):.2f} with other rows, where weights sum to 1. Raise held_out or "
                f"train on more rows, so that at least {FEW_ROWS} are held out; otherwise compare several seeds.",
                stacklevel=2,
            )

    def forget(self) -> None:
        self._weights: list[float] | None = None
        self._super_epoch = 0  # of the last estimate
        self._seconds = 0.0
        self._estimates: list[dict[str, Any]] = []

    def begin_step(self, step: Step) -> None:
        now = int(step.epoch / self.config.super_epoch) if self.config.mode == "online" else 0
        if self._weights is None or now > self._super_epoch:
            self._estimate(step)
            self._super_epoch = now

    def _estimate(self, step: Step) -> None:
        config = self.config
        epochs = config.estimation_epochs
        if epochs is None and config.mode == "online":
            epochs = config.super_epoch
        losses: dict[str, SampleLosses] = {
            name: partial(classifier_losses, name=name, task=self._run.task) for name in self._classifiers
        }
        joint = losses.pop(JOINT)
        started = time.perf_counter()
        found = self._run.train_copies([losses, {JOINT: joint}], epochs)
        self._seconds += time.perf_counter() - started
        self._weights = blending_weights([found[name] for name in self._classifiers])
        self._estimates.append(
            {
                "epoch": float(step.epoch),
                "weights": dict(zip(self._classifiers, self._weights, strict=True)),
                "losses": {name: asdict(found[name]) for name in self._classifiers},
            }
        )

    def modulate_losses(self, losses: dict[str, Tensor], batch: MicroBatch, step: Step) -> dict[str, Tensor]:
        own = batch.output["auxiliary_logits"]
        found = {name: batch.loss(own[name], batch.present(name)) for name in own}
        found[JOINT] = losses[JOINT]
        return {name: weight * found[name] for name, weight in zip(self._classifiers, self._weights, strict=True)}

    def logs(self) -> dict[str, Tensor]:
        if self._weights is None:
            return {}
        values = {f"weight_{name}": weight for name, weight in zip(self._classifiers, self._weights, strict=True)}
        values["estimation_seconds"] = self._seconds
        return {f"gradient_blending/{name}": torch.tensor(value) for name, value in values.items()}

    def summary(self) -> dict[str, Any]:
        """Every estimate with its losses, and the `estimation_seconds` of all of them."""
        return {"estimation_seconds": round(self._seconds, 2), "estimates": self._estimates}
