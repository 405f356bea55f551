"""What a task asks of logits: its loss, and how well they know the truth."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn


def at_least_float32(values: Tensor) -> Tensor:
    """`values` in float32, or in their own dtype if that is wider."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def masked_mean(values: Tensor, present: Tensor | None) -> Tensor:
    """The mean of `values (batch,)` over the samples that are `present`, bool `(batch,)`; 0-d, 0 if there are none."""
    if present is None:
        return values.mean()
    return torch.where(present, values, 0.0).sum() / present.sum().clamp_min(1)


def cross_entropies(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each sample in float32 or better, `(batch,)`; the mean over its segments if it has any.

    Args:
        logits: `(batch, num_labels)`, or `(batch, segments, num_labels)`.
        labels: class indices `(batch,)` or `(batch, segments)`.
    """
    logits = at_least_float32(logits).flatten(0, -2)
    losses = nn.functional.cross_entropy(logits, labels.flatten(), reduction="none")
    return losses.view(len(labels), -1).mean(1)


def cross_entropy(logits: Tensor, labels: Tensor, present: Tensor | None = None) -> Tensor:
    """Mean cross-entropy in float32 or better, 0-d; arguments as of `cross_entropies` and `masked_mean`."""
    if present is None:
        return nn.functional.cross_entropy(at_least_float32(logits).flatten(0, -2), labels.flatten())
    return masked_mean(cross_entropies(logits, labels), present)


@torch.no_grad()
def true_class_probability(logits: Tensor, labels: Tensor) -> Tensor:
    """Softmax probability of the true class (paper Eq. 6), float32 or better, without gradient.

    Args:
        logits: `(..., batch, num_labels)` or `(..., batch, segments, num_labels)`.
        labels: `(batch,)` or `(batch, segments)`.

    Returns:
        shaped as `logits` without its last axis, in [0, 1].
    """
    logs = at_least_float32(logits).log_softmax(-1)
    return logs.gather(-1, labels.expand(logits.shape[:-1]).unsqueeze(-1)).squeeze(-1).exp()


class Task:
    """Classification of samples, or of their segments: cross-entropy, scored by the probability of the true class.

    A model names its task in `task`; modulations, the monitor and side trainings ask nothing else what a prediction is
    worth. A task of another kind overrides all four.

    Attributes:
        counts_tokens: whether labels are tokens, each of which counts alike in the loss, whatever sample it is of.
    """

    counts_tokens: ClassVar[bool] = False

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Loss of each sample, `(batch,)`, with a graph."""
        return cross_entropies(logits, labels)

    def loss(self, logits: Tensor, labels: Tensor, present: Tensor | None = None) -> Tensor:
        """Mean loss, 0-d, with a graph.

        Args:
            logits: `(batch, ...)`.
            labels: `(batch, ...)`.
            present: optional bool `(batch,)`; other samples do not count. 0 if there are none.
        """
        return cross_entropy(logits, labels, present)

    def score(self, logits: Tensor, labels: Tensor) -> Tensor:
        """How well the logits know the truth, in [0, 1], detached, float32 or better; `(..., batch)` or `(..., batch,
        segments)` for logits with leading axes, such as one for the modalities."""
        return true_class_probability(logits, labels)

    def correct(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Whether a prediction is right, bool, shaped as the score."""
        return logits.argmax(-1) == labels


CLASSIFICATION = Task()
