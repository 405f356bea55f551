"""Losses of models that label segments: one cross-entropy per segment, or what AVGA and PSP were published with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..precision import at_least_float32, cross_entropy
from .base import SegmentPrediction


def softmax_margin(logits: Tensor, labels: Tensor) -> Tensor:
    """AVGA's published loss: the multi-label soft margin of the softmax against one-hot rows, a scalar.

    `-mean_c [y_c log sigmoid(p_c) + (1 - y_c) log sigmoid(-p_c)]` with p the softmax, which lies in [0, 1], so
    the loss does not go to 0.

    Args:
        logits: `(batch, segments, num_labels)`.
        labels: `(batch, segments)`.
    """
    logits = at_least_float32(logits).flatten(0, -2)
    targets = nn.functional.one_hot(labels.flatten(), logits.shape[-1]).to(logits.dtype)
    return nn.functional.multilabel_soft_margin_loss(logits.softmax(-1), targets)


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


def _pair_similarity(prediction: SegmentPrediction, labels: Tensor, options: Any) -> Tensor:
    background = prediction.logits.shape[-1] - 1
    pair = pair_similarity_loss(*prediction.branches.values(), labels, background)
    return cross_entropy(prediction.logits, labels) + options.similarity_weight * pair


SEGMENT_LOSSES: dict[str, Callable[[SegmentPrediction, Tensor, Any], Tensor]] = {
    "cross_entropy": lambda prediction, labels, options: cross_entropy(prediction.logits, labels),
    "soft_margin": lambda prediction, labels, options: softmax_margin(prediction.logits, labels),
    "pair_similarity": _pair_similarity,
}
"""From a prediction, labels `(batch, segments)` and the architecture's options to a scalar. Background is the last
class."""
