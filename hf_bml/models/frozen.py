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

    Args:
        model: any; the Trainer calls `train()` at every micro-batch, so this must be quick.
        encoders: parts of the model.
    """
    layers = normalisation_layers(model)
    for layer in filter(is_frozen, layers):
        layer.eval()
    if all(layer.affine for layer in layers):
        return
    for part in filter(is_frozen, encoders):
        for layer in normalisation_layers(part):
            layer.eval()


def normalisation_layers(module: nn.Module) -> list[nn.Module]:
    """Those inside that keep statistics; a layer that is shared may be there twice."""
    found, left = [], [module]
    while left:  # a third of what `modules()` takes
        module = left.pop()
        if isinstance(module, _NormBase):
            found.append(module)
        left += [child for child in module._modules.values() if child is not None]
    return found


def is_frozen(module: nn.Module) -> bool:
    """Whether `module` has parameters, and none of them is trained."""
    parameters = module.parameters() if module._modules else filter(None.__ne__, module._parameters.values())
    first = next(parameters, None)
    return first is not None and not first.requires_grad and not any(other.requires_grad for other in parameters)
