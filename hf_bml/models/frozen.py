"""Batch normalisation whose weights are frozen: its statistics stay what they are, too."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _NormBase


def keep_frozen_statistics(module: nn.Module) -> None:
    """Puts normalisation layers whose parameters are all frozen into eval mode; must follow every `train()`.

    So a frozen encoder computes in training what it computes afterwards, and a PEFT adapter, which is saved without
    the statistics of the model below it, still fits that model. A layer without parameters of its own is frozen if all
    of `module` is. Dropout stays as it is.
    """
    all_frozen = is_frozen(module)
    for layer in module.modules():
        if isinstance(layer, _NormBase) and (all_frozen or is_frozen(layer)):
            layer.eval()


def is_frozen(module: nn.Module) -> bool:
    """Whether `module` has parameters, and none of them is trained."""
    requires_grad = [parameter.requires_grad for parameter in module.parameters()]
    return bool(requires_grad) and not any(requires_grad)
