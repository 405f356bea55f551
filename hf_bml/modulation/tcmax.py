"""TCMax: maximise the total correlation of all modalities and the label.

ICLR 2026. With f the joint logits, B samples and C classes, and j_1...j_M running over all samples independently:

    L = -mean_i f(phi_i^1, ..., phi_i^M)[y_i]
        + log (1 / (B^M C)) sum_{j_1...j_M, y} exp f(phi_{j_1}^1, ..., phi_{j_M}^M)[y]

The first term is that of the cross-entropy; the normaliser runs over all combinations of the batch's features instead
of over the classes of a sample. For f = sum_m u^m it factorises: A^m[y] = sum_j exp u_j^m[y],

    log (1 / (B^M C)) sum_y prod_m A^m[y]

so that no combination is ever formed. For other heads, combinations are drawn, of each modality's samples
independently of the others'. In terms of the loss that the training minimises, whatever it is (label smoothing, a loss
of your own), L is that loss - mean_i logsumexp f(phi_i) + the normaliser. A constant in L, which differs in the
authors' code, changes no training.

Usage:      `modulations: {tcmax: {}}`
Values:     `shuffles: null`, all combinations. The authors' code draws 256 to 1,024 pairs for heads that are no sum: 4
            to 16 shuffles of batches of 64.
Relations:  drops of OPM and ModDrop apply to all terms. Multi-loss can be added.
Limits:     without `shuffles`, the joint logits must be a sum of unimodal ones (`fusion: concat` without hidden
            layers, `sum`, `shared` with `shared_prediction: sum`, ...). With them, the head, in `balance()` all behind
            the encoders, runs once more for each, and all of it is kept for the backward pass; what is no feature (an
            attention mask, a question) stays that of the place. The combinations are those of a micro-batch of one
            process: accumulation and several processes give other losses than the big batch, and a micro-batch of one
            sample gives the plain loss. Weights of samples and of classes (`sample_weight`, `class_weights`) count in
            that loss alone, not in the two normalisers. Predictions are the usual softmax, which assumes classes that
            are equally frequent.

A sample that lacks a modality, or has it dropped, counts in no A^m, B being the number of those that have it; in the
first term the head predicts without it, a linear one with its share of the bias. What is drawn stands in the places of
samples that have all modalities that any sample of the micro-batch has, `shuffles` in each place. If there is no such
sample, it stands in all places, without the modalities that a place lacks: a mean over combinations of what is there.
With segments, a combination has the same segment of all its samples. Samples without a label count in the normaliser
alone. This treatment is ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..ground.task import at_least_float32
from .base import Modulation, Title
from .config import ModulationConfig, check_count, option
from .step import JOINT, MicroBatch, Needs, Step


@dataclass
class TCMaxConfig(ModulationConfig):
    """Options of TCMax.

    Args:
        shuffles: combinations that are drawn for each sample of a micro-batch, for any head, at least 1; None takes
            all of them, exactly, of a head that sums the modalities' logits.
    """

    shuffles: int | None = option(None, "Combinations drawn for each sample; default all, exactly.", check_count)


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


def drawn(draws: Tensor, present: Tensor) -> Tensor:
    """For each place of a batch one of the samples that are present, uniformly, int64 `(batch,)`; any if none is.

    Args:
        draws: from [0, 1), `(batch,)`.
        present: bool `(batch,)`.

    Example:
        >>> drawn(torch.tensor([0.1, 0.6, 0.9]), torch.tensor([True, False, True]))
        tensor([0, 2, 2])
    """
    counts = present | ~present.any()
    count = counts.sum()
    return counts.int().argsort(descending=True, stable=True)[(draws * count).long().minimum(count - 1)]


class TCMax(Modulation):
    """Replaces the normaliser of the joint prediction by that over all combinations of the micro-batch's features.

    Logs `tcmax/normaliser`, the last term of L, and `tcmax/loss`, L.
    """

    name = "tcmax"
    config_class = TCMaxConfig
    config: TCMaxConfig
    phase = "add_losses"
    accumulation = "per_micro_batch"
    titles: ClassVar = {"normaliser": Title("log mean of exp logits", None), "loss": Title("loss", None)}

    def needs(self, modalities: Sequence[str]) -> Needs:
        is_exact = self.config.shuffles is None
        return Needs(head_graph=is_exact, exact_split=is_exact, fuse=not is_exact, classes=True)

    def modulate_features(
        self, features: dict[str, Tensor], batch: MicroBatch, keep_mask: Tensor | None, step: Step
    ) -> dict[str, Tensor]:
        batch.scratch[self.name] = keep_mask
        return features

    def forward_losses(self, features: dict[str, Tensor], batch: MicroBatch, step: Step) -> dict[str, Tensor]:
        keep_mask = batch.scratch[self.name]
        if self.config.shuffles is None:
            normaliser = log_mean_of_combinations(batch.split(features), keep_mask)
        else:
            normaliser = self._of_drawn_combinations(self.config.shuffles, features, keep_mask, batch, step)
        return {self.name: batch.weight * normaliser}

    def _of_drawn_combinations(
        self, shuffles: int, features: dict[str, Tensor], keep_mask: Tensor | None, batch: MicroBatch, step: Step
    ) -> Tensor:
        """As `log_mean_of_combinations`, of those that are drawn."""
        samples = len(batch.labels)
        if longer := {name: len(own) for name, own in features.items() if len(own) != samples}:
            raise ValueError(
                f"tcmax combines features of different samples, but the {samples} of this batch have {longer} rows of "
                "features: a sample may have any number (balance(placeholders=...)). Leave tcmax out."
            )
        some = next(iter(features.values()))
        generator = step.generator(self.name, some.device)
        kept = some.new_ones(samples, len(features), dtype=torch.bool) if keep_mask is None else keep_mask
        complete = (kept | ~kept.any(0)).all(1)
        counts = complete | ~complete.any()
        parts = []
        for _ in range(shuffles):
            combined = {}
            for (name, feature), present in zip(features.items(), kept.unbind(1), strict=True):
                draws = torch.rand(samples, device=feature.device, generator=generator)
                combined[name] = feature[drawn(draws, present)]
            predictions = at_least_float32(batch.fuse(combined, keep_mask)).flatten(1)
            parts.append(torch.where(counts, predictions.logsumexp(1), -torch.inf))
        found = torch.cat(parts)
        return found.logsumexp(0) - (shuffles * counts.sum() * predictions.shape[1]).log()

    def modulate_losses(self, losses: dict[str, Tensor], batch: MicroBatch, step: Step) -> dict[str, Tensor]:
        joint = losses[JOINT] - batch.mean(at_least_float32(batch.output["logits"]).logsumexp(-1))  # as in the loss
        logged = {"tcmax/normaliser": losses[self.name], "tcmax/loss": joint + losses[self.name]}
        self.means.add({name: value.detach() / batch.weight for name, value in logged.items()})
        return {**losses, JOINT: joint}
