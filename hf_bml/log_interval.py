"""How often a training logs if nobody said so."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

LEAST_LOGS = 20


class LogShortTrainings(TrainerCallback):
    """Lets a training log at least 20 times where `logging_steps` was left at the Trainer's 500.

    Balance is what these trainings are watched for, and one of fewer than 500 steps would show nothing of it.
    """

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if args.logging_steps == TrainingArguments.logging_steps:
            state.logging_steps = max(1, min(state.logging_steps, state.max_steps // LEAST_LOGS))
