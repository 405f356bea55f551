"""Float32 where half precision would be too coarse: scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ..ground.task import at_least_float32


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
