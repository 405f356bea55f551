"""Float32 where half precision would be too coarse: losses and scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn


def at_least_float32(values: Tensor) -> Tensor:
    """`values` in float32, or in their own dtype if that is wider."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def cross_entropy(logits: Tensor, labels: Tensor, present: Tensor | None = None) -> Tensor:
    """Mean cross-entropy in float32 or better, a scalar.

    Args:
        logits: `(batch, num_labels)`, or `(batch, segments, num_labels)`, all segments of a sample being averaged.
        labels: `(batch,)` or `(batch, segments)`.
        present: optional bool `(batch,)`; other samples do not count. 0 if there are none.
    """
    logits = at_least_float32(logits).flatten(0, -2)
    if present is None:
        return nn.functional.cross_entropy(logits, labels.flatten())
    losses = nn.functional.cross_entropy(logits, labels.flatten(), reduction="none").view(len(present), -1).mean(1)
    return torch.where(present, losses, 0.0).sum() / present.sum().clamp_min(1)


@torch.no_grad()
def full_precision_scores(
    predict: Callable[[dict[str, Tensor]], Mapping[str, Tensor]], features: Mapping[str, Tensor], dtype: torch.dtype
) -> dict[str, Tensor]:
    """Unimodal predictions: detached, computed outside autocast, in float32 or better.

    Args:
        predict: from features per modality to logits per modality `(batch, ..., num_labels)`.
        features: per modality `(batch, ..., dim)`.
        dtype: of the parameters that `predict` uses.
    """
    device = next(iter(features.values())).device
    with torch.autocast(device.type, enabled=False):
        logits = predict({name: feature.detach().to(dtype) for name, feature in features.items()})
    return {name: at_least_float32(value) for name, value in logits.items()}
