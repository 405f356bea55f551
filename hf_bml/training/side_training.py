"""Trains copies of the model beside the run, for methods that need to know how a part of it would learn."""

from __future__ import annotations

import copy
import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from accelerate.state import GradientState
from accelerate.utils import release_memory
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import PrinterCallback, Trainer, TrainerCallback
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from ..ground.task import SAMPLE_WEIGHT, weighted_mean
from ..modulation import CopyLosses
from ..modulation.step import SampleLosses
from .epochs import loader_of
from .learning_rate import SteppedTrainer


def train_copies(
    trainer: Trainer, losses: Sequence[Mapping[str, SampleLosses]], epochs: float | None = None
) -> dict[str, CopyLosses]:
    """See [`Run.train_copies`](../modulation/step.py); copies train on `trainer.train_dataset`, with its arguments.

    They start from the model and from the learning rate as they are, with a fresh optimizer, and end at the latest
    where the run will. The trainer's own model, optimizer and random state stay untouched.

    Raises:
        ValueError: no part of the training split is held out.
    """
    if trainer.held_out_dataset is None:
        raise ValueError(
            "A modulation trains copies of the model, which needs a held-out part of the training split: expected a "
            "held_out_fraction above 0."
        )
    every = {name: loss for mapping in losses for name, loss in mapping.items()}
    splits = trainer.train_dataset, trainer.held_out_dataset
    before: list[dict[str, float]] = []
    found: dict[str, CopyLosses] = {}
    with surroundings_kept(trainer.args.device), tempfile.TemporaryDirectory() as folder:
        for mapping in losses:
            side = SideTrainer(trainer, folder, epochs, mapping)
            if not before:  # the copies start equal
                before = [side.mean_losses(split, every) for split in splits]
            side.train()
            after = [side.mean_losses(split, mapping) for split in splits]
            found.update({name: CopyLosses(*(means[name] for means in (*before, *after))) for name in mapping})
            del side
            release_memory()
    return found


class StopAfter(TrainerCallback):
    """Ends a training after a number of optimizer steps."""

    def __init__(self, steps: int):
        self.steps = steps

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_training_stop |= state.global_step >= self.steps


class SideTrainer(SteppedTrainer):
    """A plain Trainer with a run's arguments and data that minimises given losses on a copy of the run's model.

    Args:
        run: the run's trainer, in training.
        folder: a temporary output folder.
        epochs: how long; None for as long as the run. It ends where the run would.
        losses: by name; what is minimised is the sum of their means.

    Raises:
        ValueError: when it trains, if the run has an optimizer or a scheduler that its arguments do not describe.
    """

    loss_is_scaled_for_ga = False

    def __init__(self, run: Trainer, folder: str, epochs: float | None, losses: Mapping[str, SampleLosses]):
        super().__init__(
            copy.deepcopy(run.accelerator.unwrap_model(run.model)),
            quiet_arguments(run.args, folder, epochs),
            data_collator=run.data_collator,
            train_dataset=run.train_dataset,
            optimizer_cls_and_kwargs=run.optimizer_cls_and_kwargs,
        )
        self.remove_callback(PrinterCallback)
        self.add_callback(StopAfter(run.state.max_steps - run.state.global_step))
        run._set_signature_columns_if_needed()
        self._signature_columns = run._signature_columns
        self.run = run
        self.losses = losses

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Any:
        """The run's schedule from its current step."""
        scheduler = super().create_scheduler(self.run.state.max_steps, optimizer)
        groups, run_groups = self.optimizer.param_groups, self.run.optimizer.param_groups
        if type(scheduler) is not type(self.run.lr_scheduler) or len(groups) != len(run_groups):
            raise ValueError(
                "A side training follows the optimizer and scheduler of the training arguments, but the trainer was "
                "given `optimizers` of its own. Describe them in the arguments (optim, learning_rate, "
                "lr_scheduler_type), or leave the modulation that trains copies of the model out."
            )
        scheduler.load_state_dict(copy.deepcopy(self.run.lr_scheduler.state_dict()))
        for group, run_group in zip(groups, run_groups, strict=True):
            group["lr"] = run_group["lr"]
        return scheduler

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, **_: Any
    ) -> Tensor | tuple[Tensor, Any]:
        outputs = model(**inputs)
        weights, labels = inputs.get(SAMPLE_WEIGHT), inputs["labels"]
        total = sum(weighted_mean(*loss(outputs, labels), weights) for loss in self.losses.values())
        return (total, outputs) if return_outputs else total

    @torch.no_grad()
    def mean_losses(self, dataset: Dataset, losses: Mapping[str, SampleLosses]) -> dict[str, float]:
        """The means of several losses over a dataset, in eval mode in one pass, over the samples that count."""
        self.model.eval()
        totals = torch.zeros(2, len(losses), dtype=torch.float64)
        for batch in loader_of(self, dataset):
            inputs = self._prepare_inputs(batch)
            with self.accelerator.autocast():
                outputs = self.model(**inputs)
            pairs = [loss(outputs, inputs["labels"]) for loss in losses.values()]
            values = torch.stack([values for values, _ in pairs], dim=1)  # (batch, losses)
            if SAMPLE_WEIGHT in inputs:
                values = values * inputs[SAMPLE_WEIGHT].unsqueeze(1)
            counts = torch.stack([counts for _, counts in pairs], dim=1)
            values, counts = self.accelerator.gather_for_metrics((values, counts))
            values, counts = values.cpu().double(), counts.cpu()
            totals += torch.stack([torch.where(counts, values, 0.0).sum(0), counts.sum(0)])
        sums, numbers = totals
        return dict(zip(losses, (sums / numbers.clamp_min(1)).tolist(), strict=True))


def quiet_arguments(args: Any, folder: str, epochs: float | None) -> Any:
    """The run's training arguments with another length, and without saving, logging, evaluating and reporting."""
    args = copy.copy(args)
    changes = {
        "output_dir": folder,
        "eval_strategy": IntervalStrategy.NO,
        "eval_on_start": False,
        "save_strategy": SaveStrategy.NO,
        "logging_strategy": IntervalStrategy.NO,
        "load_best_model_at_end": False,
        "push_to_hub": False,
        "report_to": [],
        "ddp_find_unused_parameters": True,  # the loss of a part leaves the others out
        "disable_tqdm": True,
        "resume_from_checkpoint": None,
    }
    if epochs is not None:
        changes.update(num_train_epochs=epochs, max_steps=-1)
    for name, value in changes.items():
        setattr(args, name, value)
    return args


@contextmanager
def surroundings_kept(device: torch.device) -> Iterator[None]:
    """Restores afterwards what a second Trainer in this process changes: the global random states of Python, NumPy and
    torch, and whether accelerate synchronises gradients at the current micro-batch."""
    python, numpy = random.getstate(), np.random.get_state()
    gradient_state = GradientState()
    synchronises = gradient_state.sync_gradients
    is_cpu = device.type == "cpu"
    with torch.random.fork_rng([] if is_cpu else [device], device_type="cuda" if is_cpu else device.type):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
            gradient_state._set_sync_gradients(synchronises)
