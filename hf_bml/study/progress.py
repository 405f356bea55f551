"""One short line per log event beside the progress bar, instead of every logged key."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from tqdm.auto import tqdm
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerControl, TrainerState, TrainingArguments


class CompactProgressCallback(ProgressCallback):
    """The Trainer's progress bar, on a terminal; a log event prints epoch, losses, accuracy and discrepancy ratios.

    Args:
        modalities: names whose ratios are shown.
    """

    def __init__(self, modalities: Sequence[str] = ()):
        super().__init__()
        self.modalities = tuple(modalities)

    @classmethod
    def replace_in(cls, trainer: Trainer, modalities: Sequence[str]) -> None:
        """Takes the place of the trainer's own progress bar; a trainer with `disable_tqdm` stays without."""
        if trainer.pop_callback(ProgressCallback) is not None:
            trainer.add_callback(cls(modalities))
        else:
            trainer.remove_callback(PrinterCallback)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.current_step = 0
        if state.is_world_process_zero:
            self.training_bar = tqdm(total=state.max_steps, dynamic_ncols=True, disable=None)  # None: on a terminal

    def on_prediction_step(self, *args: Any, **kwargs: Any) -> None:
        if sys.stderr.isatty():
            super().on_prediction_step(*args, **kwargs)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if not state.is_world_process_zero or self.training_bar is None:
            return
        line = self.summary(logs or {})
        if line:
            self.training_bar.write(line)
            sys.stdout.flush()  # else a log file gets its lines long after they are written

    def summary(self, logs: dict[str, Any]) -> str:
        """One line, or an empty one if the logs hold neither a training nor a validation loss."""
        if "loss" in logs:
            ratios = [f"{m} {logs[f'balance/ratio_{m}']:.2f}" for m in self.modalities if f"balance/ratio_{m}" in logs]
            shown = f", ratio {', '.join(ratios)}" if len(ratios) > 1 else ""
            return f"epoch {logs.get('epoch', 0):6.2f}  train loss {logs['loss']:.4f}{shown}"
        if "eval_loss" in logs:
            found = next((name for name in ("accuracy", "mae") if f"eval_{name}" in logs), None)
            accuracy = "" if found is None else f", {found} {logs[f'eval_{found}']:.4f}"
            return f"epoch {logs.get('epoch', 0):6.2f}  validation loss {logs['eval_loss']:.4f}{accuracy}"
        return ""
