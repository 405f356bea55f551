"""What a task asks of logits: its loss, and how well they know the truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

SAMPLE_WEIGHT = "sample_weight"  # the column of what a sample's losses are multiplied by
UNLABELLED = -100  # the class number of what has no label, as in torch and transformers
SINGLE_LABEL, MULTI_LABEL, REGRESSION = "single_label_classification", "multi_label_classification", "regression"
VARIANCE_MOMENTUM = 0.1  # share of an optimizer step in the running variance of a regression


def at_least_float32(values: Tensor) -> Tensor:
    """`values` in float32, or in their own dtype if that is wider."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def masked_mean(values: Tensor, present: Tensor | None) -> Tensor:
    """The mean of `values (batch,)` over the samples that are `present`, bool `(batch,)`; 0-d, 0 if there are none."""
    if present is None:
        return values.mean()
    return torch.where(present, values, 0.0).sum() / present.sum().clamp_min(1)


def weighted_mean(losses: Tensor, present: Tensor | None, weights: Tensor | None) -> Tensor:
    """`masked_mean` of losses, each times the weight `(batch,)` of its sample: a sum of weighted losses divided by the
    number of samples, so that micro-batches add up."""
    return masked_mean(losses if weights is None else losses * weights.to(losses.dtype), present)


def cross_entropies(logits: Tensor, labels: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Cross-entropy of each sample in float32 or better, `(batch,)`; the mean over its labelled segments if any.

    Args:
        logits: `(batch, num_labels)`, or `(batch, segments, num_labels)`.
        labels: class indices `(batch,)` or `(batch, segments)`, -100 where there is no label, whose loss is 0; or the
            probabilities of the classes, floats shaped as `logits`.
        class_weights: optional `(num_labels,)`, which multiply the losses of the classes.
    """
    flat, is_soft = at_least_float32(logits).flatten(0, -2), labels.is_floating_point()
    targets = labels.flatten(0, -2).to(flat.dtype) if is_soft else labels.flatten()
    weight = None if class_weights is None else class_weights.to(flat.dtype)
    losses = nn.functional.cross_entropy(flat, targets, weight, reduction="none").view(len(labels), -1)
    if losses.shape[1] == 1 or is_soft:
        return losses.mean(1)
    known = (labels != UNLABELLED).sum(1).clamp_min(1)
    return losses.mean(1) * (losses.shape[1] / known)


def cross_entropy(logits: Tensor, labels: Tensor, present: Tensor | None = None) -> Tensor:
    """Mean cross-entropy over what is labelled, in float32 or better, 0-d, 0 if nothing is; arguments as of
    `cross_entropies` and `masked_mean`."""
    if present is not None:
        present = both(present, labelled_samples(labels))
        return masked_mean(cross_entropies(logits, labels), present)
    if labels.is_floating_point():
        return cross_entropies(logits, labels).mean()
    mean = nn.functional.cross_entropy(at_least_float32(logits).flatten(0, -2), labels.flatten())
    return torch.where((labels != UNLABELLED).any(), mean, 0.0)


def labelled_samples(labels: Tensor) -> Tensor | None:
    """Which samples have a class number, of any segment, bool `(batch,)`; None of labels that are no such numbers."""
    if labels.is_floating_point():
        return None
    return (labels != UNLABELLED).view(len(labels), -1).any(1)


def both(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    """Where two masks are both true; None stands for true everywhere."""
    if first is None or second is None:
        return second if first is None else first
    return first & second


@torch.no_grad()
def true_class_probability(logits: Tensor, labels: Tensor) -> Tensor:
    """Softmax probability of the true class (paper Eq. 6), float32 or better, without gradient.

    Args:
        logits: `(..., batch, num_labels)` or `(..., batch, segments, num_labels)`.
        labels: `(batch,)` or `(batch, segments)`, anything where it is -100; of probabilities of the classes, floats
            shaped as a modality's logits, their mean is taken.

    Returns:
        shaped as `logits` without its last axis, in [0, 1].
    """
    logs = at_least_float32(logits).log_softmax(-1)
    if labels.is_floating_point():
        return (logs.exp() * labels).sum(-1)
    known = labels.clamp_min(0)
    return logs.gather(-1, known.expand(logits.shape[:-1]).unsqueeze(-1)).squeeze(-1).exp()


class Task:
    """Classification of samples, or of their segments: cross-entropy, scored by the probability of the true class.

    A model names its task in `task`; modulations, the monitor and side trainings ask nothing else what a prediction is
    worth. A task of another kind overrides `losses`, `loss`, `score` and `correct`; one that learns from what it
    sees, `observed`, `learn`, `state_dict` and `load_state_dict` too.

    Labels are class numbers, -100 where there is none (such samples, or segments, count in no loss and no score); or
    probabilities of the classes, floats `(batch, num_labels)`, such as mixup makes, whose score is the mean
    probability under them.

    Args:
        class_weights: what the loss of each class is multiplied by, `(num_labels,)`. The sum of the weighted losses
            is divided by the number of samples, not by that of the weights, so that micro-batches add up.

    Attributes:
        problem_type: as transformers' configs call it.
        counts_tokens: whether labels are tokens, each of which counts alike in the loss, whatever sample it is of.
    """

    problem_type: ClassVar[str] = SINGLE_LABEL
    counts_tokens: ClassVar[bool] = False

    def __init__(self, class_weights: Sequence[float] | None = None):
        self.class_weights = None if class_weights is None else tuple(class_weights)
        self._constants: dict[Any, Tensor] = {}

    def constant(self, values: Sequence[float], like: Tensor) -> Tensor:
        """Numbers `(len(values),)` on the device of `like`, in float32 or better; moved there once."""
        dtype = torch.promote_types(like.dtype, torch.float32)
        key = tuple(values), like.device, dtype
        if key not in self._constants:
            self._constants[key] = torch.tensor(values, dtype=dtype, device=like.device)
        return self._constants[key]

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Loss of each sample, `(batch,)`, with a graph; 0 for one without a label."""
        if self.class_weights is None:
            return cross_entropies(logits, labels)
        return cross_entropies(logits, labels, self.constant(self.class_weights, logits))

    def loss(
        self, logits: Tensor, labels: Tensor, present: Tensor | None = None, weights: Tensor | None = None
    ) -> Tensor:
        """Mean loss, 0-d, with a graph.

        Args:
            logits: `(batch, ...)`.
            labels: `(batch, ...)`.
            present: optional bool `(batch,)`; other samples do not count. 0 if there are none.
            weights: optional `(batch,)`, of the samples; see `weighted_mean`.
        """
        if weights is None and self.class_weights is None:
            return cross_entropy(logits, labels, present)
        return weighted_mean(self.losses(logits, labels), both(present, self.labelled(labels)), weights)

    def labelled(self, labels: Tensor) -> Tensor | None:
        """Which samples have a label, bool `(batch,)`; None if all must."""
        return labelled_samples(labels)

    def counts(self, labels: Tensor) -> Tensor | None:
        """Which predictions have a label, bool, shaped as a modality's score; None if all must."""
        return None if labels.is_floating_point() else labels != UNLABELLED

    def score(self, logits: Tensor, labels: Tensor) -> Tensor:
        """How well the logits know the truth, in [0, 1], detached, float32 or better; `(..., batch)` or `(..., batch,
        segments)` for logits with leading axes, such as one for the modalities."""
        return true_class_probability(logits, labels)

    def correct(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Whether a prediction is right, bool, shaped as the score."""
        return logits.argmax(-1) == (labels.argmax(-1) if labels.is_floating_point() else labels)

    def nothing(self, like: Tensor) -> Tensor | float:
        """The logits of a prediction from nothing: 0, of which all classes are as likely."""
        return 0.0

    def expected(self, num_labels: int) -> str:
        """What labels are, in words."""
        return f"integers in [0, {num_labels}), -100 without a label, or probabilities of the {num_labels} classes"

    def fits(self, labels: Tensor, num_labels: int) -> Tensor | None:
        """Which samples' labels are as they must be, bool `(batch,)`; None if dtype or shape are not."""
        if not labels.is_floating_point():
            return ((labels >= 0) & (labels < num_labels) | (labels == UNLABELLED)).view(len(labels), -1).all(1)
        if labels.dim() < 2 or labels.shape[-1] != num_labels:
            return None
        is_one = ((labels.sum(-1) - 1).abs() < 1e-3) & (labels >= 0).all(-1)
        return is_one.view(len(labels), -1).all(1)

    def observed(self, logits: Tensor, labels: Tensor, present: Tensor) -> Tensor | None:
        """What `learn` takes of a micro-batch, to be summed over micro-batches and processes; None for nothing.

        Args:
            logits: of each modality, detached, `(modalities, batch, ...)`.
            labels: `(batch, ...)`.
            present: bool `(modalities, batch)`, whether a sample has a modality.
        """
        return None

    def learn(self, totals: Tensor) -> None:
        """Takes the sums of an optimizer step, which are the same on every process."""

    def forget(self) -> None:
        """Sets what the task has learned to what it is before the first step."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from `state_dict()`."""


class WholeSampleTask(Task):
    """Each sample has one loss, whatever its label is a vector of, and no part of it is missing."""

    def loss(
        self, logits: Tensor, labels: Tensor, present: Tensor | None = None, weights: Tensor | None = None
    ) -> Tensor:
        return weighted_mean(self.losses(logits, labels), present, weights)

    def labelled(self, labels: Tensor) -> Tensor | None:
        return None

    def counts(self, labels: Tensor) -> Tensor | None:
        return None


class MultiLabelTask(WholeSampleTask):
    """Several yes-or-no labels a sample: binary cross-entropy, the mean over the labels, of logits of "yes".

    The score of a sample is the mean probability of its true bits, `mean_k y_k p_k + (1 - y_k)(1 - p_k)` with p the
    sigmoid; it is right if all its bits are (p above 1/2), as in subset accuracy.

    Labels are floats `(batch, num_labels)`: 0 or 1, or anything between the two.

    Args:
        class_weights: what the loss of a label's "yes" is multiplied by, `(num_labels,)` (torch's `pos_weight`).
    """

    problem_type = MULTI_LABEL

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        logits = at_least_float32(logits)
        weights = None if self.class_weights is None else self.constant(self.class_weights, logits).to(logits.dtype)
        losses = nn.functional.binary_cross_entropy_with_logits(
            logits, labels.to(logits.dtype), pos_weight=weights, reduction="none"
        )
        return losses.mean(-1)

    @torch.no_grad()
    def score(self, logits: Tensor, labels: Tensor) -> Tensor:
        yes = at_least_float32(logits).sigmoid()
        return (labels * yes + (1 - labels) * (1 - yes)).mean(-1)

    def correct(self, logits: Tensor, labels: Tensor) -> Tensor:
        return ((logits > 0) == (labels > 0.5)).all(-1)

    def expected(self, num_labels: int) -> str:
        return f"{num_labels} numbers in [0, 1] a sample"

    def fits(self, labels: Tensor, num_labels: int) -> Tensor | None:
        if not labels.is_floating_point() or labels.dim() != 2 or labels.shape[1] != num_labels:
            return None
        return ((labels >= 0) & (labels <= 1)).all(1)


class RegressionTask(WholeSampleTask):
    """Numbers: the mean squared error, in units of the labels' standard deviation, of logits in the labels' own units.

    With z = (logit - label) / std the loss of a sample is the mean of z^2 over its numbers. Its score is ours, the
    likelihood of a Gaussian relative to its maximum, `exp(-z^2 / 2v)` in (0, 1], the mean over its numbers. v is a
    running mean (momentum 0.1 a step) of the z^2 of all modalities' own predictions, so that scores tell the
    modalities apart however large their errors are; the same on all processes, and part of a checkpoint. A prediction
    is right if z^2 <= v. In the first step, whose scores no earlier one informs, v is 1.

    Labels are floats `(batch,)`, or `(batch, num_labels)`; integers count as floats.

    Args:
        mean: of the labels, `(num_labels,)`; default 0.
        std: their standard deviation, > 0; default 1.
    """

    problem_type = REGRESSION

    def __init__(self, mean: Sequence[float] | None = None, std: Sequence[float] | None = None):
        super().__init__()
        self.variance: Tensor | None = None  # (num_labels,)
        self.standardise(mean, std)

    def standardise(self, mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
        """Sets the labels' mean and standard deviation."""
        self.mean, self.std = (None if values is None else tuple(values) for values in (mean, std))

    def in_units(self, standardised: Tensor) -> Tensor:
        """What a head says, `(..., num_labels)` in standard deviations from the mean, in the labels' units; in float32
        or better, unless mean and std are not known."""
        if self.mean is None or self.std is None:
            return standardised
        values = at_least_float32(standardised)
        return self._scale(self.mean, values) + self._scale(self.std, values) * values

    def _scale(self, values: tuple[float, ...], like: Tensor) -> Tensor | float:
        """One number as it is, so that it is part of a compiled graph; of several a tensor."""
        return values[0] if len(values) == 1 else self.constant(values, like)

    def errors(self, logits: Tensor, labels: Tensor) -> Tensor:
        """z, shaped as `logits`, in float32 or better."""
        logits = at_least_float32(logits)
        errors = logits - labels.reshape(len(labels), -1).to(logits.dtype)
        return errors if self.std is None else errors / self._scale(self.std, logits)

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        return self.errors(logits, labels).square().mean(-1)

    def _spread(self, like: Tensor) -> Tensor | float:
        """v, on the device of `like`."""
        return 1.0 if self.variance is None else self.variance.to(like)

    @torch.no_grad()
    def score(self, logits: Tensor, labels: Tensor) -> Tensor:
        squares = self.errors(logits, labels).square()
        return (-0.5 * squares / self._spread(squares)).exp().mean(-1)

    @torch.no_grad()
    def correct(self, logits: Tensor, labels: Tensor) -> Tensor:
        squares = self.errors(logits, labels).square()
        return (squares <= self._spread(squares)).all(-1)

    def nothing(self, like: Tensor) -> Tensor | float:
        """The labels' mean."""
        return 0.0 if self.mean is None else self._scale(self.mean, like)

    def expected(self, num_labels: int) -> str:
        return "a finite number a sample" if num_labels == 1 else f"{num_labels} finite numbers a sample"

    def fits(self, labels: Tensor, num_labels: int) -> Tensor | None:
        if labels.dim() > 2 or labels.numel() != len(labels) * num_labels:
            return None
        return labels.reshape(len(labels), -1).isfinite().all(1)

    @torch.no_grad()
    def observed(self, logits: Tensor, labels: Tensor, present: Tensor) -> Tensor:
        squares = torch.where(present.unsqueeze(-1), self.errors(logits, labels).square(), 0.0)
        return torch.cat([squares.sum((0, 1)), present.sum().to(squares.dtype).view(1)])

    @torch.no_grad()
    def learn(self, totals: Tensor) -> None:
        count = totals[-1:]
        found = (totals[:-1] / count.clamp_min(1)).clamp_min(torch.finfo(totals.dtype).tiny)
        if self.variance is None:
            self.variance = torch.where(count > 0, found, 1.0)
        else:
            self.variance = torch.where(count > 0, self.variance.lerp(found, VARIANCE_MOMENTUM), self.variance)

    def forget(self) -> None:
        self.variance = None

    def state_dict(self) -> dict[str, Any]:
        return {"variance": self.variance}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.variance = state.get("variance")


CLASSIFICATION = Task()
TASKS: dict[str, type[Task]] = {task.problem_type: task for task in (Task, MultiLabelTask, RegressionTask)}
