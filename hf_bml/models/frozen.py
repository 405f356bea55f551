"""Batch normalisation whose weights are frozen keeps its statistics as well."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn
from torch.nn.modules.batchnorm import _NormBase


def keep_frozen_statistics(model: nn.Module, encoders: Iterable[nn.Module]) -> None:
    """Puts normalisation layers whose parameters are all frozen into eval mode; must follow every `train()`.

    So a frozen encoder computes in training what it computes afterwards, and a PEFT adapter, which is saved without
    the statistics of the model below it, still fits that model. A layer without parameters of its own is frozen if its
    encoder is. Dropout stays as it is.
    """
    for part in (encoder for encoder in encoders if is_frozen(encoder)):
        for layer in part.modules():
            if isinstance(layer, _NormBase):
                layer.eval()
    for layer in model.modules():
        if isinstance(layer, _NormBase) and is_frozen(layer):
            layer.eval()


def is_frozen(module: nn.Module) -> bool:
    """Whether `module` has parameters, and none of them is trained."""
    first = next(module.parameters(), None)
    return first is not None and not any(parameter.requires_grad for parameter in module.parameters())
