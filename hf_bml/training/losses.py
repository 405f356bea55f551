"""The losses of a training batch by name, and the separate gradients of some of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import reduce
from operator import add
from typing import Any

import torch
from torch import Tensor, nn
from torch._functorch import config as compiled_graphs
from transformers import Trainer

from ..ground.task import Task, both
from ..modulation.step import AUXILIARY, JOINT, UNIMODAL

WEIGHTS_UNSEEN = (
    "The data has a column sample_weight, but label_smoothing_factor or compute_loss_func replaces the loss, which "
    "would not see it. Smooth the labels in the data (probabilities of the classes), or weigh in a compute_loss."
)


def minimised_loss(
    trainer: Trainer,
    task: Task,
    labels: Tensor,
    num_items_in_batch: Tensor | int | None,
    weights: Tensor | None = None,
) -> Callable[[Tensor, Tensor | None], Tensor]:
    """What the trainer minimises: `compute_loss_func`, label smoothing, or the task's loss.

    Args:
        trainer: in training.
        task: of its model.
        labels: `(batch, ...)`.
        num_items_in_batch: as of `Trainer.compute_loss`.
        weights: the column `sample_weight`, `(batch,)`; None without it.

    Returns:
        a function of logits `(batch, ...)` and of the samples that count, bool `(batch,)` or None for all.

    Raises:
        ValueError: label smoothing of labels that are no class numbers, or sample weights that the loss would not see.
    """
    if trainer.label_smoother is not None and labels.is_floating_point():
        raise ValueError(
            "label_smoothing_factor smooths class numbers, but the labels are probabilities of the classes already. "
            "Smooth them in the data, (1 - e) y + e / num_labels, and leave label_smoothing_factor out."
        )
    if weights is not None and (trainer.label_smoother is not None or trainer.compute_loss_func is not None):
        raise ValueError(WEIGHTS_UNSEEN)
    share = None  # of the labelled tokens of the whole batch that are in this micro-batch
    if task.counts_tokens and num_items_in_batch is not None:
        share = task.tokens(labels).double() / num_items_in_batch
        if trainer.args.average_tokens_across_devices:
            share = share * trainer.accelerator.num_processes  # as `Trainer.compute_loss` does

    def loss(logits: Tensor, present: Tensor | None = None) -> Tensor:
        if trainer.compute_loss_func is not None:
            chosen = (logits, labels) if present is None else (logits[present], labels[present])
            if not len(chosen[1]):
                return 0.0 * logits.sum()
            found = trainer.compute_loss_func({"logits": chosen[0]}, chosen[1], num_items_in_batch=num_items_in_batch)
            if trainer.args.average_tokens_across_devices and num_items_in_batch is not None:
                found = found * trainer.accelerator.num_processes  # as `Trainer.compute_loss` does
            return found
        if trainer.label_smoother is None:
            found = task.loss(logits, labels, present, *([] if weights is None else [weights]))
            return found if share is None else share * found
        present = both(present, task.labelled(labels))
        if present is None:
            return trainer.label_smoother({"logits": logits}, labels)
        some = present.any()  # with none, all count, times 0: the smoother divides by their number
        counts = (present | ~some).view(-1, *[1] * (labels.dim() - 1))
        kept = torch.where(counts, labels, trainer.label_smoother.ignore_index)
        return trainer.label_smoother({"logits": logits}, kept) * some

    return loss


def named_losses(loss: Tensor, output: Mapping[str, Any]) -> dict[str, Tensor]:
    """The losses whose sum is minimised: `joint`, `auxiliary` and those that modulations made in the forward.

    Args:
        loss: what `compute_loss` returned, which is not the model's if it was computed outside the model.
        output: the model's.
    """
    found = dict(output.get("losses") or {})
    if loss is not output.get("loss"):
        found.pop(AUXILIARY, None)
        found[JOINT] = loss
    return {JOINT: found.pop(JOINT, loss), **found}


def total(losses: Mapping[str, Tensor]) -> Tensor:
    """The sum of named losses, 0-d."""
    return reduce(add, losses.values())


def several_backwards(names: Sequence[str]) -> AbstractContextManager[None]:
    """For forward and backward of a step in which the gradients of these losses are taken beside that of their sum.

    What `torch.compile` compiles within it keeps what a further backward needs; by default it reuses that memory.
    """
    return compiled_graphs.patch(donated_buffer=False) if names else nullcontext()


def separate_gradients(
    losses: Mapping[str, Tensor], names: Sequence[str], modalities: Sequence[str], parameters: Sequence[nn.Parameter]
) -> dict[str, dict[nn.Parameter, Tensor]]:
    """The gradients of named losses, which must already be multiplied as the minimised one is; the graph is kept.

    Args:
        losses: 0-d, by name.
        names: of the losses; `unimodal` for the sum of those that have a modality's name.
        modalities: the modalities' names.
        parameters: to differentiate by; those that a loss does not reach are left out.
    """
    found = {}
    for name in names:
        parts = [losses[each] for each in (modalities if name == UNIMODAL else [name]) if each in losses]
        if not parts:
            continue
        gradients = torch.autograd.grad(reduce(add, parts), parameters, retain_graph=True, allow_unused=True)
        found[name] = {p: g for p, g in zip(parameters, gradients, strict=True) if g is not None}
    return found


def add_gradients(
    sums: dict[str, dict[nn.Parameter, Tensor]], further: Mapping[str, Mapping[nn.Parameter, Tensor]]
) -> None:
    """Adds the gradients of a micro-batch to those of the step, in place."""
    for name, gradients in further.items():
        mine = sums.setdefault(name, {})
        for parameter, gradient in gradients.items():
            mine[parameter] = mine[parameter] + gradient if parameter in mine else gradient
