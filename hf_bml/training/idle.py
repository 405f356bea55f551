"""Warnings of modulations that will have no effect."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from accelerate.optimizer import AcceleratedOptimizer
from torch.optim import Optimizer
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from .card_facts import MultimodalTrainer

# In the class name, lower case:
SCALE_FREE_OPTIMIZERS = ("ada", "ademamix", "lamb", "lion", "muon", "prodigy", "rmsprop", "soap", "sophia")


class IdleModulationWarning(TrainerCallback):
    """Warns of modulations that never act, once the training's length in epochs and steps is known."""

    def __init__(self, trainer: MultimodalTrainer):
        self._trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        epochs = state.num_train_epochs if args.max_steps > 0 else args.num_train_epochs
        for modulation in self._trainer.modulation:
            modulation.warn_if_idle(self._trainer.model.encoders, epochs, state.max_steps)


def warn_of_ignored_scale(optimizer: Optimizer, methods: Sequence[str]) -> None:
    """Warns of methods that scale gradients, for an optimizer that a constant scale does not reach."""
    name = type(optimizer.optimizer if isinstance(optimizer, AcceleratedOptimizer) else optimizer).__name__
    if methods and any(family in name.lower() for family in SCALE_FREE_OPTIMIZERS):
        warnings.warn(
            f"{methods} scale gradients, but {name} divides each gradient by its own running size, which "
            "cancels a constant scale. Use `optim: sgd` with `optim_args: momentum=0.9`.",
            stacklevel=3,
        )
