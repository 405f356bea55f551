"""Learning rates that fall in steps at fixed parts of the training, however many steps or processes it has, and that
differ between parts of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from transformers import Trainer

from ..ground.suggestion import did_you_mean
from .training_args import own_arguments


def stepped_factor(step: int, drop_steps: Sequence[int], factor: float) -> float:
    """What the learning rate is multiplied by at an optimizer step: `factor` for every drop that lies behind.

    Example:
        >>> [stepped_factor(step, [2, 3], 0.1) for step in (1, 2)]
        [1.0, 0.1]
    """
    return float(factor ** sum(step >= drop for drop in drop_steps))


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


def scale_learning_rates(optimizer: Optimizer, model: nn.Module, multipliers: Mapping[str, float]) -> None:
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


class SteppedTrainer(Trainer):
    """A Trainer that follows `lr_multipliers` of its arguments, and `lr_drop_at` and `lr_drop_factor` (torch's
    `MultiStepLR`)."""

    _multipliers: Mapping[str, float] | None = None  # of the optimizer

    def create_optimizer(self, model: nn.Module | None = None) -> Optimizer:
        """As in Trainer, with the learning rates of `lr_multipliers`.

        Raises:
            ValueError: there is an optimizer already, and it has other `lr_multipliers`.
        """
        multipliers = own_arguments(self.args).lr_multipliers or {}
        if self.optimizer is not None:
            if multipliers != (self._multipliers or {}):
                raise ValueError(
                    f"lr_multipliers {multipliers} do not reach the optimizer that the trainer has already, with "
                    f"{self._multipliers or {}}. Set trainer.optimizer = None to train with a new one."
                )
            return super().create_optimizer(model)
        optimizer = super().create_optimizer(model)
        if multipliers:
            unwrapped = self.accelerator.unwrap_model(self.model if model is None else model)
            scale_learning_rates(optimizer, unwrapped, multipliers)
        self._multipliers = dict(multipliers)
        return optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Optimizer | None = None) -> LRScheduler:
        drops = own_arguments(self.args).lr_drop_at
        if self.lr_scheduler is None and drops:
            steps = [round(drop * num_training_steps) for drop in drops]
            schedule = partial(stepped_factor, drop_steps=steps, factor=self.args.lr_drop_factor)
            self.lr_scheduler = LambdaLR(self.optimizer if optimizer is None else optimizer, schedule)
            self._created_lr_scheduler = True
        return super().create_scheduler(num_training_steps, optimizer)
