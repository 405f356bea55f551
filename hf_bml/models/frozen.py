"""Parts of a model that are frozen, and batch normalisation, which then keeps its statistics as well."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from ..ground.suggestion import did_you_mean


def check_freeze(names: Any) -> None:
    """Raises ValueError unless `names` is a list of texts."""
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ValueError(
            f"freeze must be a list of names such as ['embeddings', 'encoder.layer.[0-5]'], found {names!r}."
        )


class FrozenParts:
    """Modules and parameters that are not trained; the modules stay in eval mode, so they compute what they do in
    evaluation.

    Args:
        model: any.
        names: of modules and parameters in it, dotted, with `*` and `[0-5]` as in file names: `encoder.layer.[0-5]`
            are the first six layers of a BERT.

    Raises:
        ValueError: there is nothing of such a name; the closest one is named.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        >>> parts = FrozenParts(model, ["0", "1.bias"])
        >>> [parameter.requires_grad for parameter in model.parameters()]
        [False, False, True, False]
    """

    def __init__(self, model: nn.Module, names: Sequence[str]):
        modules = {name: module for name, module in model.named_modules() if name}
        parameters = [name for name, _ in model.named_parameters()]
        self.modules: list[nn.Module] = []
        self.parameters: list[tuple[nn.Module, str]] = []  # by their owners: loading a checkpoint replaces them
        for pattern in names:
            found = [name for name in [*modules, *parameters] if fnmatchcase(name, pattern)]
            if not found:
                raise ValueError(f"freeze: the model has no part {pattern!r}.{did_you_mean(pattern, modules)}")
            for name in found:
                owner, _, own_name = name.rpartition(".")
                if name in modules:
                    self.modules.append(modules[name])
                else:
                    self.parameters.append((model.get_submodule(owner), own_name))
        self.freeze()

    def freeze(self) -> None:
        """Must follow every `train()` and `eval()`, the latter of which `from_pretrained` calls."""
        for module in self.modules:
            module.eval().requires_grad_(False)
        for owner, name in self.parameters:
            owner.get_parameter(name).requires_grad_(False)


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
    own = (parameter for parameter in module._parameters.values() if parameter is not None)
    parameters = module.parameters() if module._modules else own
    first = next(parameters, None)
    return first is not None and not first.requires_grad and not any(other.requires_grad for other in parameters)
