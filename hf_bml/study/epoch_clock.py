"""How long the epochs of a training take, without what is evaluated and saved in them (paper Table 4)."""

from __future__ import annotations

import time
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class EpochClock(TrainerCallback):
    """Takes the seconds of every whole epoch; not of one that began at a checkpoint or that `max_steps` cut.

    The accelerator is waited for at the beginning and the end of an epoch only. What a modulation trains beside the
    run is part of the epoch.

    Attributes:
        seconds: one number per whole epoch.
    """

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._whole = False
        self._began = self._paused = self._last = 0.0

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        wait_for_accelerator()
        self._whole = float(state.epoch or 0).is_integer()
        self._began = self._last = time.perf_counter()
        self._paused = 0.0

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self._last = time.perf_counter()

    def on_evaluate(self, *args: Any, **kwargs: Any) -> None:
        """Leaves out what has passed since the last step, log, evaluation or save."""
        now = time.perf_counter()
        self._paused += now - self._last
        self._last = now

    on_log, on_save = on_step_end, on_evaluate

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        wait_for_accelerator()
        if self._whole and float(state.epoch).is_integer():
            self.seconds.append(time.perf_counter() - self._began - self._paused)


def wait_for_accelerator() -> None:
    """Until the GPU, if there is one, has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
