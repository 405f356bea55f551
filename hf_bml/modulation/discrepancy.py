"""How discriminative is each modality right now? Scores, ratios, and the monitor that keeps them during training.

Source: paper Sec. 3.2.1, Eq. 6 (score) and Eq. 7 (ratio). Everything here is detached and in float32 or better.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..ground.task import CLASSIFICATION, Task, both
from .running_mean import RunningMean
from .step import MicroBatch

ROUNDING = 64  # in units of the dtype's eps: what two sums of 1e5 probabilities may differ by through rounding alone


def unimodal_scores(unimodal_logits: Mapping[str, Tensor], labels: Tensor, task: Task = CLASSIFICATION) -> Tensor:
    """What each modality's own prediction is worth, `s_i^m`: the probability of the true class (paper Eq. 6).

    Args:
        unimodal_logits: per modality `(batch, num_labels)`, any floating dtype; further dimensions between the
            two (segments) are allowed.
        labels: class indices `(batch,)`, or `(batch, segments)` for segment logits.
        task: whose score it is.

    Returns:
        `(modalities, batch, ...)`, float32 (float64 for float64 logits), without gradient.
    """
    return task.score(torch.stack([logits.detach() for logits in unimodal_logits.values()]), labels)


def discriminative_scores(
    unimodal_logits: Mapping[str, Tensor], labels: Tensor, mask: Tensor | None = None, task: Task = CLASSIFICATION
) -> Tensor:
    """Batch score `S^m = sum_i s_i^m`: the summed true-class probability of every modality (paper Eq. 6).

    Args:
        unimodal_logits: per modality `(batch, num_labels)`, or `(batch, segments, num_labels)`.
        labels: `(batch,)` or `(batch, segments)`, integer class indices.
        mask: optional bool `(batch, modalities)`; a sample that lacks a modality does not count for it.
        task: whose score it is.

    Returns:
        `(modalities,)`, in the order of `unimodal_logits`.

    Example:
        >>> import torch
        >>> logits = {"audio": torch.tensor([[9.0, 1.0]]).log(), "visual": torch.tensor([[1.5, 1.0]]).log()}
        >>> discriminative_scores(logits, torch.tensor([0]))
        tensor([0.9000, 0.6000])
    """
    return score_totals(unimodal_logits, labels, mask, task)[0]


@torch.no_grad()
def score_totals(
    unimodal_logits: Mapping[str, Tensor], labels: Tensor, mask: Tensor | None = None, task: Task = CLASSIFICATION
) -> Tensor:
    """The sums behind the scores of a micro-batch, which can be added over micro-batches and ranks.

    Args:
        unimodal_logits: per modality `(batch, num_labels)` or `(batch, segments, num_labels)`.
        labels: `(batch,)` or `(batch, segments)`.
        mask: optional bool `(batch, modalities)`, False where a sample lacks a modality.
        task: whose score it is.

    Returns:
        `(3, modalities)`: summed scores, correct predictions, predictions that count; those without a label do not.
    """
    logits = torch.stack(tuple(unimodal_logits.values()))
    scores, correct = task.score(logits, labels), task.correct(logits, labels)
    present = both(None if mask is None else _modality_first(mask, correct), task.counts(labels))
    if present is None:
        parts = scores, correct.to(scores.dtype), torch.ones_like(scores)
    else:
        present = present.expand_as(correct)
        parts = torch.where(present, scores, 0.0), correct & present, present
    return torch.stack(parts).flatten(2).sum(2)


def loss_totals(logits: Mapping[str, Tensor], batch: MicroBatch, largest: float = math.inf) -> Tensor:
    """The sums behind the mean losses of predictions from single modalities, by the task's own loss.

    Args:
        logits: per modality `(batch, ...)`.
        batch: where they come from.
        largest: what the loss of a sample counts as at most.

    Returns:
        `(2, modalities)`, detached: the summed loss of the labelled samples that have the modality, and how many these
        are.
    """
    losses = torch.stack([batch.task.losses(own.detach(), batch.labels) for own in logits.values()])
    losses = losses.clamp_max(largest)
    mask = both(None if batch.modality_mask is None else batch.modality_mask.t(), batch.task.labelled(batch.labels))
    present = torch.ones_like(losses) if mask is None else mask.expand_as(losses).to(losses.dtype)
    return torch.stack([torch.where(present > 0, losses, 0.0), present]).sum(2)


def comparable_scores(score_sums: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Scores of modalities that not all samples have, and which of them any sample had.

    Args:
        score_sums: `(modalities,)`, over the samples that have the modality.
        counts: `(modalities,)`, how many these are.

    Returns:
        `(modalities,)`: the mean over the samples that have the modality, times the largest count; and bool
        `(modalities,)`.
    """
    return score_sums / counts.clamp_min(1) * counts.amax(), counts > 0


def snapped(values: Tensor, point: float, scale: Tensor | float = 1.0) -> Tensor:
    """`values` with exactly `point` in place of what differs from it by rounding only.

    Two modalities whose scores are equal (both saturated, both untrained) get sums that differ in their last bits;
    without this, these bits would decide whether one of them is dominant.

    Args:
        values: any shape.
        point: where a decision is made.
        scale: magnitude of the numbers that `values` were computed from. The tolerance is `64 eps scale`: for ratios
            7.6e-6 in float32 and 1.4e-14 in float64.

    Example:
        >>> import torch
        >>> snapped(torch.tensor([1.000001, 1.00001]), 1.0).tolist() == [1.0, torch.tensor(1.00001).item()]
        True
    """
    tolerance = ROUNDING * torch.finfo(values.dtype).eps * scale
    return torch.where((values - point).abs() <= tolerance, point, values)


def discrepancy_ratios(scores: Tensor, observed: Tensor | None = None) -> Tensor:
    """Discrepancy ratio `rho^m`: the mean over the other modalities of `S^m / S^j` (paper Eq. 7).

    A ratio above 1 means that the modality is more discriminative than the others. The smallest score always has
    a ratio of at most 1, so at least one modality is never held back. A ratio within rounding of 1 is 1,
    see [`snapped`].

    Args:
        scores: `(modalities,)`, non-negative; values below 1e-8 count as 1e-8 in a denominator.
        observed: optional bool `(modalities,)`; a modality that no sample had is left out of the other ratios and
            gets 1 itself.

    Returns:
        `(modalities,)`; all ones for a single modality.

    Example:
        >>> import torch
        >>> discrepancy_ratios(torch.tensor([1.8, 1.2, 0.8]))
        tensor([1.8750, 1.0833, 0.5556])
    """
    if len(scores) == 1:
        return torch.ones_like(scores)
    quotients = (scores[:, None] / scores.clamp_min(1e-8)).fill_diagonal_(0)
    if observed is None:
        return snapped(quotients.sum(1) / (len(scores) - 1), 1.0)
    seen = observed.to(scores.dtype)
    count = seen.sum() - seen  # others that were observed
    ratios = snapped((quotients * seen).sum(1) / count.clamp_min(1), 1.0)
    return torch.where(observed & (count > 0), ratios, 1.0)


def discrepancy_differences(scores: Tensor, observed: Tensor | None = None) -> Tensor:
    """The paper's alternative to the ratio: the mean over the other modalities of `S^m - S^j` (Table 15).

    It grows with the batch. The threshold that makes a modality dominant stays 1, as in all rows of that table.

    Args and result as in `discrepancy_ratios`; an unobserved modality gets 0.

    Example:
        >>> import torch
        >>> discrepancy_differences(torch.tensor([20.0, 12.0]))
        tensor([ 8., -8.])
    """
    others = ~torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    if observed is not None:
        others = others & observed
    differences = torch.where(others, scores[:, None] - scores, 0.0).sum(1) / others.sum(1).clamp_min(1)
    return differences if observed is None else torch.where(observed, differences, 0.0)


def inverse_ratios(scores: Tensor, observed: Tensor | None = None) -> Tensor:
    """How far a modality is behind: the mean over the other modalities of `S^j / S^m`; 1 is level.

    Args and result as in `discrepancy_ratios`, whose reciprocal it is for two modalities.

    Example:
        >>> import torch
        >>> inverse_ratios(torch.tensor([1.8, 1.2, 0.6]))
        tensor([0.5000, 1.0000, 2.5000])
    """
    seen = torch.ones_like(scores) if observed is None else observed.to(scores.dtype)
    others = seen.sum() - seen
    mean = ((scores * seen).sum() - scores * seen) / others.clamp_min(1)
    return torch.where((seen > 0) & (others > 0), snapped(mean / scores.clamp_min(1e-8), 1.0), 1.0)


def tanh_shifted(discrepancy: Tensor) -> Tensor:
    """`z(x) = tanh(x - 1)`, which maps values above 1 into (0, 1) (paper Sec. 3.2.1)."""
    return torch.tanh(discrepancy - 1)


MEASURES: dict[str, Callable[..., Tensor]] = {"ratio": discrepancy_ratios, "difference": discrepancy_differences}
TRANSFORMS: dict[str, Callable[[Tensor], Tensor]] = {"tanh": tanh_shifted, "sigmoid": torch.sigmoid}


class DiscrepancyMonitor:
    """Collects scores over the micro-batches and ranks of one optimizer step, then forms the ratios once.

    `update` is called for every micro-batch and stays on the device; `step` is called when the gradients are
    synchronised. The effective batch of paper Eq. 7 is therefore the whole batch of the optimizer step. A modality
    that some samples lack is compared by its mean over the samples that have it, scaled to the size of the modality
    that most samples have.

    Args:
        modalities: modality names, in the model's order.
        task: whose scores these are; what it learns from the steps is part of the monitor's state.
    """

    def __init__(self, modalities: Sequence[str], task: Task = CLASSIFICATION):
        self.modalities = tuple(modalities)
        self.task = task
        self._observed: Tensor | None = None  # for `task.learn`
        self.scores: Tensor | None = None
        self.ratios: Tensor | None = None
        self.observed: Tensor | None = None
        self._pending: Tensor | None = None
        self._means = RunningMean(self.modalities)

    @torch.no_grad()
    def update(
        self,
        unimodal_logits: Mapping[str, Tensor],
        labels: Tensor,
        mask: Tensor | None = None,
        task: Task | None = None,
        rows: Tensor | None = None,
    ) -> None:
        """Adds one micro-batch; arguments as of [`score_totals`], the task by default the monitor's, and int64
        `(rows,)`, the samples that the logits are of, which stand for all; None for all."""
        share = 1.0
        if rows is not None:
            share = len(labels) / len(rows)
            labels, mask = labels[rows], None if mask is None else mask[rows]
        totals = score_totals(unimodal_logits, labels, mask, self.task if task is None else task)
        totals = totals if rows is None else totals * share
        self._pending = totals if self._pending is None else self._pending + totals
        logits = torch.stack([each.detach() for each in unimodal_logits.values()])
        everywhere = torch.ones(logits.shape[:2], dtype=torch.bool, device=logits.device)
        observed = self.task.observed(logits, labels, everywhere if mask is None else mask.bool().t())
        if observed is not None:
            observed = observed if rows is None else observed * share
            self._observed = observed if self._observed is None else self._observed + observed

    @torch.no_grad()
    def step(self, reduce: Callable[[Tensor], Tensor] | None = None) -> None:
        """Closes an optimizer step: sums over ranks with `reduce`; sets `scores`, `ratios` and `observed` (whether
        any sample had the modality), each `(modalities,)`."""
        if self._pending is None:
            raise RuntimeError("DiscrepancyMonitor.step() was called without any update() since the last step.")
        totals, self._pending = self._pending, None
        if reduce is not None:
            totals = reduce(totals)
        count = totals[2]
        score, accuracy = (totals[:2] / count.clamp_min(1)).unbind()
        self.scores, self.observed = score * count.amax(), count > 0  # as `comparable_scores`
        self.ratios = discrepancy_ratios(self.scores, self.observed)
        self._means.add({"balance/score": score, "balance/ratio": self.ratios, "unimodal/accuracy": accuracy})
        if self._observed is not None:
            observed, self._observed = self._observed, None
            self.task.learn(observed if reduce is None else reduce(observed))

    def logs(self) -> dict[str, Tensor]:
        """Means since the last call: `balance/score_<m>` in [0, 1] (mean true-class probability),
        `balance/ratio_<m>` (mean of the steps' ratios) and `unimodal/accuracy_<m>` in [0, 1]."""
        return self._means.pop()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {
            "scores": self.scores,
            "ratios": self.ratios,
            "observed": self.observed,
            "means": self._means.state_dict(),
            "task": self.task.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from `state_dict()`."""
        self.scores, self.ratios, self.observed = state["scores"], state["ratios"], state["observed"]
        self._means.load_state_dict(state["means"])
        self.task.load_state_dict(state.get("task", {}))  # which earlier versions did not keep


def _modality_first(mask: Tensor, like: Tensor) -> Tensor:
    """`(batch, modalities)` to `(modalities, batch, 1, ...)` with as many dimensions as `like`."""
    return mask.bool().t().reshape(mask.shape[1], mask.shape[0], *[1] * (like.dim() - 2))
