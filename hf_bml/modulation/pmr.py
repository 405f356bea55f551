"""PMR, prototypical modality rebalance: draw the slower modality's features to the prototypes of their classes.

Fan et al. 2023, "PMR: prototypical modal rebalance for multimodal learning" (CVPR). With c_k^m the mean feature of
class k, without gradient, each modality predicts by its distance to these prototypes:

    prediction      q_i^m = softmax_k(-|phi_i^m - c_k^m| / temperature)
    its loss        PCE^m = mean_i loss(q_i^m),   its entropy H^m,   its score s^m = sum_i q_i^m[y_i]

    L = CE + alpha sum_m clip(max_j s^j / s^m - 1, 0, 1) PCE^m - mu sum_m clip(s^m / min_j s^j - 1, 0, 1) H^m

the last term in the first `entropy_epochs` epochs only. For two modalities these are the paper's weights
clip(1 / rho - 1, 0, 1) and clip(rho - 1, 0, 1) of rho = s^1 / s^2; for more it is our reading.

Usage:      `modulations: {pmr: {alpha: 1.0, end: 50}}`
Values:     alpha 0.5...3, active in the first half of the epochs, SGD (the authors' code). mu 0.01, entropy_epochs 5
            and temperature 1 are ours; features grow in training, which sharpens q, and a temperature counters that.
Relations:  adds a loss; drops of OPM and ModDrop act on the joint prediction alone.
Cost:       `prototypes: epoch` reads the training split once more each epoch, in eval mode. `online` takes the means
            of the training features of the last epoch, so that it begins with the second.
Limits:     a feature must be one vector for each label: no token sequences, no interaction between the encoders.

At each epoch's beginning c becomes `momentum c + (1 - momentum) c_new`; a class without samples keeps its prototype,
and until it has one its samples do not count. The scores are those of the whole optimizer step before, and over the
samples that have the modality; before the first step all weights are 0.

Preset `released` follows the authors' code: weight 1 for the modalities with less than the largest score, and no
entropy term.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..ground.task import at_least_float32, masked_mean
from .base import Modulation, Title
from .config import ModulationConfig, option
from .discrepancy import comparable_scores, snapped
from .step import MicroBatch, Needs, Step

BELOW = 40.0  # of a class without a prototype, its logit under the lowest of the others; e^-40 is 0 beside 1


@dataclass
class PMRConfig(ModulationConfig):
    """Options of PMR.

    Args:
        alpha: weight of the prototype losses, >= 0.
        mu: weight of the entropies, >= 0.
        entropy_epochs: epochs from the beginning of the training in which the entropies count, >= 0.
        weights: `"ratio"`: by the ratio of the scores (paper); `"switch"`: 1 below the largest score, else 0.
        prototypes: `"epoch"`: class means of the training split, collected at the beginning of each epoch; `"online"`:
            of the training features of the last epoch.
        fraction: of the training split, for `"epoch"`, in (0, 1].
        momentum: share of a prototype that stays from epoch to epoch, in [0, 1).
        temperature: of the distances, > 0.
    """

    alpha: float = option(1.0, "Weight of the prototype losses, >= 0.", "[0, inf)")
    mu: float = option(0.01, "Weight of the prototype entropies, >= 0.", "[0, inf)")
    entropy_epochs: float = option(5.0, "First epochs, in which the entropies count.", "[0, inf]")
    weights: str = option("ratio", "Weights of the losses: ratio or switch.", ("ratio", "switch"))
    prototypes: str = option("epoch", "Where prototypes come from: epoch or online.", ("epoch", "online"))
    fraction: float = option(1.0, "Share of the training split for prototypes: epoch.", "(0, 1]")
    momentum: float = option(0.2, "Share of a prototype that stays, in [0, 1).", "[0, 1)")
    temperature: float = option(1.0, "Temperature of the distances, > 0.", "(0, inf]")

    RELEASED: ClassVar[dict[str, Any]] = {"weights": "switch", "mu": 0.0}


@torch.no_grad()
def class_sums(features: Tensor, labels: Tensor, classes: int, present: Tensor | None = None) -> Tensor:
    """Sums of features by class, float32 or better.

    Args:
        features: `(batch, ..., dim)`.
        labels: `(batch, ...)`; negative ones do not count.
        classes: how many there are.
        present: optional bool `(batch,)`; other samples do not count.

    Returns:
        `(classes, dim + 1)`: the sums, and in the last column of how many they are.
    """
    counts = labels >= 0
    if present is not None:
        counts = counts & present.view(-1, *[1] * (labels.dim() - 1))
    counts, rows = counts.reshape(-1, 1), at_least_float32(features).flatten(0, -2)
    rows = torch.where(counts, torch.cat([rows, torch.ones_like(rows[:, :1])], 1), 0.0)
    members = labels.reshape(1, -1) == torch.arange(classes, device=labels.device)[:, None]
    with torch.autocast(rows.device.type, enabled=False):
        return members.to(rows.dtype) @ rows


def moved_prototypes(prototypes: Tensor | None, sums: Tensor, momentum: float) -> Tensor:
    """Prototypes after an epoch.

    Args:
        prototypes: `(classes, dim)`, NaN where a class has none; None before the first epoch.
        sums: `(classes, dim + 1)`, of `class_sums`.
        momentum: share of the old ones, where there are both.
    """
    counts = sums[:, -1:]
    new = torch.where(counts > 0, sums[:, :-1] / counts.clamp_min(1), torch.nan)
    if prototypes is None:
        return new
    mixed = momentum * prototypes + (1 - momentum) * new
    return torch.where(new.isnan(), prototypes, torch.where(prototypes.isnan(), new, mixed))


def prototype_logits(features: Tensor, prototypes: Tensor, temperature: float = 1.0) -> Tensor:
    """`-|phi_i - c_k| / temperature`, `(batch, ..., classes)`, float32 or better. No gradient at a distance of 0.

    A class without a prototype has the lowest of the others minus 40, without a gradient; 0 if none has one.

    Args:
        features: `(batch, ..., dim)`.
        prototypes: `(classes, dim)`, NaN where a class has none.
        temperature: > 0.

    Example:
        >>> import torch
        >>> prototype_logits(torch.eye(2), torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
        tensor([[-1.0000, -0.0000],
                [-1.0000, -1.4142]])
    """
    rows, known = at_least_float32(features), ~prototypes.isnan().any(1)
    centres = prototypes.nan_to_num().to(rows.dtype)
    distances = torch.cdist(rows.flatten(0, -2), centres, compute_mode="donot_use_mm_for_euclid_dist")
    logits = -distances / temperature
    lowest = torch.where(known, logits, torch.inf).amin(-1, keepdim=True).detach() - BELOW
    logits = torch.where(known, logits, torch.where(known.any(), lowest, 0.0))
    return logits.view(*features.shape[:-1], len(prototypes))


def entropies(logits: Tensor) -> Tensor:
    """Entropy of each sample's prediction, `(batch,)`, in nats, of logits `(batch, ..., classes)`."""
    logs = logits.log_softmax(-1)
    return -(logs.exp() * logs).sum(-1).view(len(logs), -1).mean(1)


def rebalancing_weights(scores: Tensor, observed: Tensor, form: str = "ratio") -> tuple[Tensor, Tensor]:
    """Weights of the prototype losses and of the entropies, each `(modalities,)` in [0, 1], 0 for unobserved ones.

    Args:
        scores: s, `(modalities,)`.
        observed: bool `(modalities,)`.
        form: `"ratio"` or `"switch"`.

    Example:
        >>> import torch
        >>> rebalancing_weights(torch.tensor([0.6, 0.4]), torch.tensor([True, True]))
        (tensor([0.0000, 0.5000]), tensor([0.5000, 0.0000]))
    """
    scores = scores.clamp_min(1e-8)
    behind = snapped(torch.where(observed, scores, 0.0).amax() / scores, 1.0) - 1
    ahead = snapped(scores / torch.where(observed, scores, torch.inf).amin(), 1.0) - 1
    if form == "switch":
        behind, ahead = behind > 0, ahead > 0
    return tuple(torch.where(observed, each.to(scores.dtype).clamp(0, 1), 0.0) for each in (behind, ahead))


class PMR(Modulation):
    """Adds the prototype losses of the modalities that are behind.

    Logs `pmr/weight_<m>` of the prototype losses, `pmr/loss_<m>` and `pmr/score_<m>`, of a sample.
    """

    name = "pmr"
    config_class = PMRConfig
    config: PMRConfig
    phase = "add_losses"
    compares_modalities = True
    kept = ("epoch", "prototypes", "sums", "scores")
    titles: ClassVar = {
        "weight": Title("weight of the prototype loss", 0, 1),
        "loss": Title("prototype loss"),
        "score": Title("prototype score", 0, 1),
    }

    def needs(self, modalities: Sequence[str]) -> Needs:
        # It takes features that the head predicts from.
        return Needs(fuse=True, class_numbers=True)

    def forget(self) -> None:
        self._epoch = -1  # of the prototypes
        self._prototypes: dict[str, Tensor] = {}
        self._sums: dict[str, Tensor] = {}  # of this epoch's training features
        self._scores: Tensor | None = None  # (2, modalities), summed scores and counts of the last step

    @property
    def first_epoch(self) -> float:
        return 1.0 if self.config.prototypes == "online" else 0.0

    @property
    def options_in_epochs(self) -> list[str]:
        config = self.config
        entropies = [f"entropy_epochs={config.entropy_epochs:g}"] if config.mu and config.entropy_epochs else []
        return [*super().options_in_epochs, f"prototypes={config.prototypes}", *entropies]

    def begin_step(self, step: Step) -> None:
        epoch = int(step.epoch)
        if epoch == self._epoch or len(step.modalities) == 1:
            return
        self._epoch = epoch
        sums, self._sums = self._collected() if self.config.prototypes == "epoch" else self._sums, {}
        for name, each in sums.items():
            self._prototypes[name] = moved_prototypes(self._prototypes.get(name), each, self.config.momentum)

    def _collected(self) -> dict[str, Tensor]:
        found = self._run.collect("train", ["features", "labels", "keep_mask"], self.config.fraction)
        device, sums = next(self._run.model.parameters()).device, {}
        for column, name in enumerate(self.means.modalities):
            if f"features_{name}" not in found:
                raise ValueError(
                    f"pmr collects the features of the training split, which this {type(self._run.model).__name__} "
                    "does not return. Set prototypes: online."
                )
            feature = found[f"features_{name}"]
            self._check(name, feature, found["labels"])
            present = found["keep_mask"][:, column]
            sums[name] = class_sums(feature, found["labels"], self._run.face.num_labels, present).to(device)
        return sums

    def _check(self, name: str, feature: Tensor, labels: Tensor) -> None:
        if feature.shape[:-1] != labels.shape:
            raise ValueError(
                f"pmr needs one feature vector for each label, found features of {tuple(feature.shape)} of {name!r} "
                f"for labels of {tuple(labels.shape)}. Leave pmr out, or use encoders that pool their tokens."
            )

    def forward_losses(self, features: dict[str, Tensor], batch: MicroBatch, step: Step) -> dict[str, Tensor]:
        if len(step.modalities) == 1:
            return {}
        for name, feature in batch.features.items():
            self._check(name, feature, batch.labels)
            if self.config.prototypes == "online":
                sums = class_sums(feature, batch.labels, self._run.face.num_labels, batch.present(name))
                step.add(f"pmr/{name}", sums)
        return self._losses(batch, step) if self._prototypes else {}

    def _losses(self, batch: MicroBatch, step: Step) -> dict[str, Tensor]:
        config, losses, spreads, totals = self.config, [], [], []
        for name, feature in batch.features.items():
            prototypes = self._prototypes[name]
            logits = prototype_logits(feature, prototypes, config.temperature)
            known = ~prototypes.isnan().any(1)[batch.labels]
            counts, present = known.view(len(known), -1).all(1), batch.present(name)
            counts = counts if present is None else counts & present
            score = batch.score(logits).view(len(counts), -1).mean(1)
            totals.append(torch.stack([torch.where(counts, score, 0.0), counts.to(score.dtype)]).sum(1))
            losses.append(batch.loss(logits, counts))
            spreads.append(masked_mean(entropies(logits), counts) * batch.weight)
        step.add("pmr", torch.stack(totals, 1))
        if self._scores is None:
            return {}
        weights, of_spreads = rebalancing_weights(*comparable_scores(*self._scores), config.weights)
        loss = config.alpha * (weights * torch.stack(losses)).sum()
        if config.mu and step.epoch < config.entropy_epochs:
            loss = loss - config.mu * (of_spreads * torch.stack(spreads)).sum()
        self.means.add({"pmr/weight": weights, "pmr/loss": torch.stack(losses).detach()})
        return {self.name: loss}

    @torch.no_grad()
    def end_step(self, step: Step) -> None:
        if len(step.modalities) == 1:
            return
        if self.config.prototypes == "online":
            for name in step.modalities:
                found = step.total(f"pmr/{name}")
                self._sums[name] = self._sums[name] + found if name in self._sums else found
        if self._prototypes:
            self._scores = step.total("pmr")
            self.means.add({"pmr/score": self._scores[0] / self._scores[1].clamp_min(1)})
