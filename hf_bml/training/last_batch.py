"""Finds, before a training, a batch of one sample, from which BatchNorm cannot take statistics."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sized
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.utils import send_to_device
from torch import Tensor, nn
from torch.utils.data import IterableDataset
from transformers import Trainer

from .side_training import surroundings_kept

BATCH_NORM = nn.modules.batchnorm._BatchNorm


def smallest_batch(samples: int, batch: int, drop_last: bool = False, filled_up: bool = False) -> int:
    """Samples of the smallest micro-batch of an epoch.

    Args:
        samples: of the data set.
        batch: of a full micro-batch.
        drop_last: whether the last batch is left out unless it is full.
        filled_up: whether it is completed, as accelerate does for several processes.

    Example:
        >>> smallest_batch(33, 8), smallest_batch(33, 8, drop_last=True), smallest_batch(32, 8)
        (1, 8, 8)
    """
    rest = samples % batch
    return batch if rest == 0 or drop_last or filled_up else rest


def check_last_batch(trainer: Trainer) -> None:
    """Raises ValueError if a micro-batch of a training will hold one sample, of which a BatchNorm layer would see one
    value a channel. The model runs once, in eval mode, only if there is such a batch and a BatchNorm layer at all.

    Streams, whose batches are all full, `batch_rebalance`, whose batches vary, and shards are not checked.
    """
    args, dataset = trainer.args, trainer.train_dataset
    if isinstance(dataset, IterableDataset) or not isinstance(dataset, Sized):
        return
    if args.train_sampling_strategy == "batch_rebalance" or trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled:
        return
    samples, batch, processes = len(dataset), args.train_batch_size, args.world_size
    filled_up = processes > 1 and args.accelerator_config.even_batches
    if smallest_batch(samples, batch, args.dataloader_drop_last, filled_up) != 1:
        return
    steps = args.max_steps * args.gradient_accumulation_steps
    if batch > 1 and 0 < steps < math.ceil(samples / (batch * processes)):
        return  # the training ends before the last batch
    with trained_batch_norms(trainer.model, processes) as norms:
        name = first_single_value(trainer, norms) if norms else None
    if name is None:
        return
    size = next((size for size in range(max(batch, 2), samples + 1) if samples % size != 1), None)
    if size is None:
        advice = "Train on more samples."
    elif batch == 1:
        advice = f"Set per_device_train_batch_size: {size}."
    else:
        advice = f"Set dataloader_drop_last: true, or per_device_train_batch_size: {size}."
    raise ValueError(
        f"The {samples} training samples in batches of {batch} leave a batch of one sample, of which BatchNorm "
        f"({name}) cannot take statistics: it sees one value a channel. {advice}"
    )


@contextmanager
def trained_batch_norms(model: nn.Module, processes: int) -> Iterator[dict[nn.Module, str]]:
    """The layers, by name, that take a batch's own statistics in training; within it the model is in eval mode."""
    modes = {module: module.training for module in model.modules()}
    model.train()  # a model may keep parts of it frozen
    try:
        norms = {
            module: name
            for name, module in model.named_modules()
            if isinstance(module, BATCH_NORM)
            and (module.training or not module.track_running_stats)
            and not (processes > 1 and isinstance(module, nn.SyncBatchNorm))
        }
        model.eval()
        yield norms
    finally:
        for module, mode in modes.items():
            module.training = mode


@torch.no_grad()
def first_single_value(trainer: Trainer, norms: dict[nn.Module, str]) -> str | None:
    """The name of the first of some layers that sees one value a channel in the first sample of the training split."""
    found: list[str] = []

    def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if inputs[0].numel() == inputs[0].shape[1]:
            found.append(norms[module])

    handles = [module.register_forward_pre_hook(look) for module in norms]
    try:
        with surroundings_kept(trainer.args.device):
            collate = trainer._get_collator_with_removed_columns(trainer.data_collator)
            batch: Any = collate([trainer.train_dataset[0]])
            trainer.model(**send_to_device(batch, next(trainer.model.parameters()).device))
    finally:
        for handle in handles:
            handle.remove()
    return next(iter(found), None)
