"""Learning rates that differ between parts of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from .suggestion import did_you_mean


def check_multipliers(multipliers: Any) -> None:
    """Raises ValueError unless `multipliers` is None or maps names to numbers of at least 0."""
    if multipliers is None:
        return
    is_valid = isinstance(multipliers, Mapping) and all(
        isinstance(factor, int | float) and not isinstance(factor, bool) and 0 <= factor < float("inf")
        for factor in multipliers.values()
    )
    if not is_valid:
        raise ValueError(
            "lr_multipliers must map names of modules or parameters to numbers of at least 0, found "
            f"{multipliers!r}. For example {{'encoders.flow.model.conv1': 5}}."
        )


def parameter_multipliers(model: nn.Module, multipliers: Mapping[str, float]) -> dict[str, float]:
    """The factor of every parameter that has one, by the longest of `multipliers`' names that it belongs to.

    Raises:
        ValueError: a name is neither a module's nor a parameter's; the closest one is named.

    Example:
        >>> parameter_multipliers(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), {"1": 5, "1.bias": 10})
        {'1.weight': 5, '1.bias': 10}
    """
    found, used = {}, set()
    for name, _ in model.named_parameters():
        parts = name.split(".")
        for length in range(len(parts), 0, -1):
            prefix = ".".join(parts[:length])
            if prefix in multipliers:
                used.add(prefix)
                found.setdefault(name, multipliers[prefix])
    for name in multipliers:
        if name not in used:
            hint = did_you_mean(name, [n for n, m in model.named_modules() if n and any(True for _ in m.parameters())])
            raise ValueError(f"lr_multipliers: the model has no parameter in {name!r}.{hint}")
    return found


def scale_learning_rates(optimizer: torch.optim.Optimizer, model: nn.Module, multipliers: Mapping[str, float]) -> None:
    """Moves the parameters that have a factor into parameter groups of their own with `lr` times it, in place.

    Call it before the scheduler is made and before the first step: schedulers then scale each group's own rate.
    """
    factors = parameter_multipliers(model, multipliers)
    by_parameter = {parameter: factors[name] for name, parameter in model.named_parameters() if name in factors}
    for group in list(optimizer.param_groups):
        options = {key: value for key, value in group.items() if key != "params"}
        for factor in sorted({by_parameter[p] for p in group["params"] if p in by_parameter}):
            moved = [p for p in group["params"] if by_parameter.get(p) == factor]
            group["params"] = [p for p in group["params"] if by_parameter.get(p) != factor]
            optimizer.add_param_group({**options, "params": moved, "lr": factor * group["lr"]})
