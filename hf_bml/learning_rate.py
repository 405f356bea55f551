"""Learning rates that fall in steps at fixed parts of the training, however many steps or processes it has."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from transformers import Trainer


def stepped_factor(step: int, drop_steps: Sequence[int], factor: float) -> float:
    """What the learning rate is multiplied by at an optimizer step: `factor` for every drop that lies behind.

    Example:
        >>> [stepped_factor(step, [2, 3], 0.1) for step in (1, 2)]
        [1.0, 0.1]
    """
    return float(factor ** sum(step >= drop for drop in drop_steps))


class SteppedTrainer(Trainer):
    """A Trainer that follows `lr_drop_at` and `lr_drop_factor` of its arguments (torch's `MultiStepLR`)."""

    def create_scheduler(self, num_training_steps: int, optimizer: Optimizer | None = None) -> LRScheduler:
        drops = getattr(self.args, "lr_drop_at", None)
        if self.lr_scheduler is None and drops:
            steps = [round(drop * num_training_steps) for drop in drops]
            schedule = partial(stepped_factor, drop_steps=steps, factor=self.args.lr_drop_factor)
            self.lr_scheduler = LambdaLR(self.optimizer if optimizer is None else optimizer, schedule)
            self._created_lr_scheduler = True
        return super().create_scheduler(num_training_steps, optimizer)
