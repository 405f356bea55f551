"""Float32 where half precision would be too coarse, scores; and inputs in the precision of what reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..ground.task import at_least_float32

HALF = (torch.float16, torch.bfloat16)


def in_precision(inputs: Any, dtype: torch.dtype) -> Any:
    """The inputs with the floating-point tensors in them, also in dicts, in another precision."""
    if isinstance(inputs, Mapping):
        return {name: in_precision(value, dtype) for name, value in inputs.items()}
    return inputs.to(dtype) if isinstance(inputs, Tensor) and inputs.is_floating_point() else inputs


def in_precision_of(module: nn.Module, inputs: Any) -> Any:
    """The inputs of a module in float16 or bfloat16 if it was loaded in that; else as they are.

    As with transformers' models, the dtype of a module is that of its first floating-point parameter.
    """
    dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), None)
    return in_precision(inputs, dtype) if dtype in HALF else inputs


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
