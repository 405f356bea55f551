"""Losses of models that label segments: one cross-entropy per segment, or what AVGA and PSP were published with."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...ground.task import Task, at_least_float32, weighted_mean


def softmax_margins(logits: Tensor, labels: Tensor) -> Tensor:
    """AVGA's published loss of each sample: the multi-label soft margin of the softmax against one-hot rows.

    `(batch,)`, `-mean_c [y_c log sigmoid(p_c) + (1 - y_c) log sigmoid(-p_c)]`, averaged over the segments, with p the
    softmax, which lies in [0, 1], so the loss does not go to 0.

    Args:
        logits: `(batch, segments, num_labels)`.
        labels: `(batch, segments)`.
    """
    probabilities = at_least_float32(logits).softmax(-1)
    targets = nn.functional.one_hot(labels, logits.shape[-1]).to(probabilities.dtype)
    losses = nn.functional.multilabel_soft_margin_loss(
        probabilities.flatten(0, -2), targets.flatten(0, -2), reduction="none"
    )
    return losses.view(len(labels), -1).mean(1)


class EverySegmentTask(Task):
    """Labels the segments of a clip, all of which must have a class."""

    def labelled(self, labels: Tensor) -> Tensor | None:
        return None

    def counts(self, labels: Tensor) -> Tensor | None:
        return None

    def expected(self, num_labels: int) -> str:
        return f"integers in [0, {num_labels})"

    def fits(self, labels: Tensor, num_labels: int) -> Tensor | None:
        if labels.is_floating_point():
            return None
        return ((labels >= 0) & (labels < num_labels)).view(len(labels), -1).all(1)


class SoftMarginTask(EverySegmentTask):
    """Labels the segments of a clip, and is trained with `softmax_margins`."""

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        return softmax_margins(logits, labels)

    def loss(
        self, logits: Tensor, labels: Tensor, present: Tensor | None = None, weights: Tensor | None = None
    ) -> Tensor:
        return weighted_mean(self.losses(logits, labels), present, weights)


def event_similarities(first: Tensor, second: Tensor) -> Tensor:
    """How a clip's similarity between two branches is spread over its segments (PSP, Eq. 8), `(batch, segments)`.

    The cosine of each segment's pair, negative ones as 0, divided by the clip's sum.

    Args:
        first, second: `(batch, segments, dim)`.
    """
    cosines = nn.functional.cosine_similarity(at_least_float32(first), at_least_float32(second), dim=-1)
    similarities = torch.relu(cosines)
    return similarities / (similarities.sum(-1, keepdim=True) + 1e-8)


def event_shares(labels: Tensor, background: int) -> Tensor:
    """1 / n on the n segments of a clip that are not background, 0 elsewhere (PSP, Eq. 9), float32.

    Args:
        labels: `(batch, segments)`.
        background: its class.

    Example:
        >>> import torch
        >>> event_shares(torch.tensor([[3, 0, 0, 3]]), background=3)
        tensor([[0.0000, 0.5000, 0.5000, 0.0000]])
    """
    is_event = (labels != background).float()
    return is_event / is_event.sum(-1, keepdim=True).clamp_min(1)


def pair_similarity_loss(first: Tensor, second: Tensor, labels: Tensor, background: int) -> Tensor:
    """PSP's second loss: the mean squared error of `event_similarities` against `event_shares`, a scalar."""
    similarities = event_similarities(first, second)
    return nn.functional.mse_loss(similarities, event_shares(labels, background).to(similarities.dtype))


SEGMENT_LOSSES = ("cross_entropy", "soft_margin", "pair_similarity")
