"""Trains a copy of the model beside the run, for methods that must know how a part of it would learn."""

from __future__ import annotations

import copy
import dataclasses
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import datasets
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset
from transformers import Trainer

from .modulation import CopyLosses

Loss = Callable[[Mapping[str, Any], Tensor], Tensor]


def hold_out(dataset: Any, fraction: float, seed: int) -> tuple[Any, Any]:
    """Splits a training dataset into what remains and a random held-out part, the same on every process.

    Args:
        dataset: with a length and an index.
        fraction: share to hold out, in (0, 1).
        seed: decides which samples.

    Raises:
        ValueError: one of the two parts would be empty, or the dataset has no length.
    """
    if not hasattr(dataset, "__len__"):
        raise ValueError(
            f"A modulation holds {fraction:.0%} of the training split out, which needs a dataset with a length; found "
            f"{type(dataset).__name__}. Load the data without streaming."
        )
    size = round(fraction * len(dataset))
    if not 0 < size < len(dataset):
        raise ValueError(f"Holding {fraction:.0%} out of {len(dataset)} training samples leaves one part empty.")
    order = np.random.default_rng(seed).permutation(len(dataset))
    parts = np.sort(order[size:]), np.sort(order[:size])
    if isinstance(dataset, datasets.Dataset):
        return tuple(dataset.select(part) for part in parts)
    return tuple(Subset(dataset, part.tolist()) for part in parts)


class SideTrainer(Trainer):
    """A plain Trainer with the run's arguments that minimises a given loss of the model's output."""

    loss_is_scaled_for_ga = False

    def __init__(self, *args: Any, loss: Loss, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.loss = loss

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, **_: Any
    ) -> Tensor | tuple[Tensor, Any]:
        outputs = model(**inputs)
        loss = self.loss(outputs, inputs["labels"])
        return (loss, outputs) if return_outputs else loss

    def mean_loss(self, dataset: Dataset) -> float:
        """The mean of the loss over a dataset, in eval mode."""
        return self.evaluate(dataset)["eval_loss"]


def train_copy(trainer: Trainer, loss: Loss, epochs: float) -> CopyLosses:
    """See [`TrainCopy`](modulation/base.py): the copy sees `trainer.train_dataset` with the trainer's arguments and
    starts from the model as it is; the trainer's model, optimizer and random state stay untouched."""
    with random_state_kept(), tempfile.TemporaryDirectory() as folder:
        args = dataclasses.replace(trainer.args, **quiet_arguments(folder, epochs))
        side = SideTrainer(
            copy.deepcopy(trainer.accelerator.unwrap_model(trainer.model)),
            args,
            data_collator=trainer.data_collator,
            loss=loss,
        )
        side.train_dataset = trainer.train_dataset
        before = side.mean_loss(trainer.train_dataset), side.mean_loss(trainer.held_out_dataset)
        side.train()
        after = side.mean_loss(trainer.train_dataset), side.mean_loss(trainer.held_out_dataset)
    return CopyLosses(before[0], before[1], after[0], after[1])


def quiet_arguments(folder: str, epochs: float) -> dict[str, Any]:
    """What a side training changes in the run's arguments: its length, and it saves, logs and reports nothing."""
    return {
        "output_dir": folder,
        "num_train_epochs": epochs,
        "max_steps": -1,
        "modulations": None,
        "eval_strategy": "no",
        "save_strategy": "no",
        "logging_strategy": "no",
        "load_best_model_at_end": False,
        "prediction_loss_only": True,
        "push_to_hub": False,
        "report_to": "none",
        "disable_tqdm": True,
        "resume_from_checkpoint": None,
    }


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Restores the global random states of Python, NumPy and torch afterwards."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
