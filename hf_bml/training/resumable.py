"""`transformers.Trainer` whose training, killed at any point, resumes bitwise as if it had never stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from torch import nn
from torch.utils.data import DataLoader, Dataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, TrainOutput

from ..ground.disk import check_writable, disk_errors_named
from ..processing.prepared_datasets import may_draw_at_access
from .checkpoint import (
    MANIFEST_NAME,
    remove_checkpoint,
    resume_point,
    seal_checkpoint,
    seal_state,
    set_checkpoints_aside,
)
from .epochs import rows_of
from .learning_rate import SteppedTrainer
from .seeded_rows import SeededRows

LOG_STATE_NAME = "log_state.pt"


class SaveAfterEpochEnd(TrainerCallback):
    """Postpones a save after an epoch's last step until the end of the epoch has been logged and evaluated.

    The Trainer saves first, and a training that resumes there begins with the next epoch: it would neither log
    nor evaluate, nor draw the random numbers that this takes.
    """

    def __init__(self) -> None:
        self._is_due = False

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        ends_epoch = control.should_training_stop or control.should_epoch_stop or float(state.epoch).is_integer()
        self._is_due = control.should_save and ends_epoch
        if self._is_due:
            control.should_save = False

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._is_due:
            control.should_save, self._is_due = True, False


class ResumableTrainer(SteppedTrainer):
    """Writes checkpoints that count only when they are complete (see `checkpoint`), and resumes from them exactly.

    Beyond what the Trainer does, it restores the loss since the last log, keeps what happens at the end of an epoch,
    draws the same augmentation, and takes no step beyond the last.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        with disk_errors_named("output_dir"):  # which the Trainer makes
            super().__init__(*args, **kwargs)
        self.add_callback(SaveAfterEpochEnd())

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """As in `Trainer`, but `"auto"` resumes the newest *complete* checkpoint in `output_dir`, or starts afresh
        without one; `"last"` and True need one; an incomplete one that is named is refused. None follows
        `resume_from_checkpoint` in the arguments. A training from scratch sets the checkpoints of an earlier
        one in `output_dir` aside.

        The training ends bitwise as if it had never stopped, but not with `ignore_data_skip`; nor, on a stream, with
        another number of processes or of workers that load data; nor, from a checkpoint inside an epoch, with
        `train_sampling_strategy="group_by_length"`, with dropout and `dataloader_persistent_workers`, or with a
        custom Dataset class that draws random numbers, unless it is wrapped in [`SeededRows`]. Callbacks with a
        state of their own, such as early stopping, need `restore_callback_states_from_checkpoint`. The closing
        `train_loss`, `train_runtime` and speeds are those of this call, as in any Trainer.

        Raises:
            ValueError: naming what the checkpoint lacks, or that there is none.
            DiskError: `output_dir` cannot be written.
        """
        if resume_from_checkpoint is None:
            resume_from_checkpoint = self.args.resume_from_checkpoint
        found: list[str | None] = [None, None]  # the checkpoint, or why there is none
        if self.is_world_process_zero():
            try:
                found[0] = resume_point(resume_from_checkpoint, self.args.output_dir)
            except ValueError as error:
                found[1] = str(error)
        checkpoint, refusal = broadcast_object_list(found)
        if refusal is not None:
            raise ValueError(refusal)
        if self.args.should_save:
            check_writable(self.args.output_dir)
            if checkpoint is None:
                set_checkpoints_aside(self.args.output_dir)
        self.accelerator.wait_for_everyone()
        return super().train(checkpoint, *args, **kwargs)

    def _get_dataloader(self, dataset: Dataset, *args: Any, **kwargs: Any) -> DataLoader:
        """Rows that a transform may draw at each access, as augmented ones, are seeded one by one for training."""
        if kwargs.get("is_training") and may_draw_at_access(dataset):
            sampler = kwargs["sampler_fn"](dataset)
            kwargs["sampler_fn"] = lambda _: sampler
            dataset = SeededRows(self._remove_unused_columns(dataset, "Training"), self.args.seed)
        return super()._get_dataloader(dataset, *args, **kwargs)

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        if self.state.global_step >= self.state.max_steps:  # resumed from the last checkpoint, inside an epoch
            self.control.should_training_stop = True
            return
        rows = rows_of(kwargs["train_dataloader"])
        if isinstance(rows, SeededRows):
            rows.set_epoch(kwargs["epoch"])
        super()._run_epoch(*args, **kwargs)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        output_dir = self._get_output_dir(trial)
        folder = Path(output_dir, f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}")
        kept = f"{folder.name} is not complete; earlier checkpoints are kept, to be resumed with `auto`."
        with disk_errors_named(output_dir, kept):
            if self.args.should_save:
                remove_checkpoint(folder)  # half-written, or of an earlier training
            self.accelerator.wait_for_everyone()
            super()._save_checkpoint(model, trial)
            if self.args.should_save and (folder / MANIFEST_NAME).is_file():
                seal_state(folder)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        with disk_errors_named(output_dir or self.args.output_dir):
            super().save_model(output_dir, _internal_call)

    def _save_rng_state(self, output_dir: str) -> None:
        """Writes the last files of this process but `trainer_state.json`, and seals the checkpoint."""
        super()._save_rng_state(output_dir)
        loss_sums = self.accelerator.gather(self._tr_loss.reshape(1))  # of every process
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            state = {"loss_sums": loss_sums, "last_logged_step": self._globalstep_last_logged}
            torch.save(state, Path(output_dir, LOG_STATE_NAME))
            seal_checkpoint(output_dir)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Also restores the loss since the last log, which the Trainer has set to zero before it calls this."""
        super()._load_rng_state(checkpoint)
        path = Path(checkpoint, LOG_STATE_NAME)
        if not path.is_file():  # of a plain Trainer: the next loss is the mean since the checkpoint
            return
        state = torch.load(path, map_location="cpu", weights_only=True)
        sums = state["loss_sums"]
        same_processes = len(sums) == self.args.world_size
        self._tr_loss += sums[self.args.process_index] if same_processes else sums.mean()
        self._total_loss_scalar -= sums.mean().item()  # `train_loss` is that of this call's steps
        self._globalstep_last_logged = state["last_logged_step"]
