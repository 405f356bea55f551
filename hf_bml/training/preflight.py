"""What the trainer checks and prepares before the first step, so that no run fails at step 500."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import datasets
import torch
from torch import nn
from transformers import Trainer, TrainingArguments

from ..ground.task import CLASSIFICATION, SAMPLE_WEIGHT
from ..models import BalancedModel
from ..models.face import ModelFace, face_of
from ..models.wrappers import check_bare, check_saved_whole, is_adapted, without_adapter
from ..modulation import Modulation
from .losses import WEIGHTS_UNSEEN
from .training_args import own_arguments


def check_model(model: nn.Module) -> ModelFace:
    """Checks that the model has what balancing needs, encoders by modality, and that it can be loaded once saved.

    Returns:
        its face.

    Raises:
        TypeError: no encoders.
        ValueError: it is compiled, distributed, or adapted by PEFT in a way that loses weights (see
            `models.wrappers`).
    """
    check_bare(model)
    if is_adapted(model) and isinstance(without_adapter(model), BalancedModel):
        raise ValueError(
            "get_peft_model(balance(model, ...)) would save an adapter that only fits the wrapper. Adapt the model "
            "itself: balance(get_peft_model(model, config), ...), with the same paths."
        )
    face = face_of(without_adapter(model))
    check_saved_whole(model if face.wrapped_model is None else face.wrapped_model)
    return face


def check_output(output: Any, loss: Any, training: bool) -> None:
    """Checks what a model has returned for a batch with labels.

    Args:
        output: the model's.
        loss: what the Trainer takes for the loss: its field `loss`, or the first item of anything but a mapping.
        training: whether the scores of the modalities are needed as well.

    Raises:
        ValueError: the loss is not a scalar (of a bare tensor or tuple of logits it is the first of these), or there
            are no unimodal logits.
    """
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
        found = f"shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else type(loss).__name__
        raise ValueError(
            f"expected a scalar loss from the model, found {found} in a {type(output).__name__}. Return a mapping or "
            "ModelOutput with `loss`, or let balance(model, ...) take the cross-entropy of its logits."
        )
    if training and (not isinstance(output, Mapping) or "unimodal_logits" not in output):
        raise ValueError(
            "compute_loss must return (loss, output) in training, output being what model(**inputs) returned, a "
            f"mapping or ModelOutput with `unimodal_logits`; found {type(output).__name__}. Let balance(model, ...) "
            "score the modalities of a model that returns something else."
        )


def check_given_optimizer(trainer: Trainer, modulations: Iterable[Modulation]) -> None:
    """Raises ValueError if `optimizers` holds what arguments or modulations need the trainer to make."""
    args = own_arguments(trainer.args)
    if trainer.optimizer is not None and args.lr_multipliers:
        raise ValueError(
            "lr_multipliers do not reach the optimizer in `optimizers`. Set the rates in its parameter "
            "groups, or pass optimizer_cls_and_kwargs=(class, keywords), or set optim."
        )
    if trainer.lr_scheduler is not None and args.lr_drop_at:
        raise ValueError(
            "lr_drop_at does not reach the schedule in `optimizers`. Leave one of the two out: "
            "optimizers=(optimizer, None)."
        )
    copying = [m.name for m in modulations if m.held_out_fraction]
    if copying and (trainer.optimizer is not None or trainer.lr_scheduler is not None):
        raise ValueError(
            f"{copying} train copies of the model, for which the trainer must make an optimizer, but it was given "
            "`optimizers` of its own. Pass optimizer_cls_and_kwargs=(class, keywords), or set optim and "
            "lr_scheduler_type."
        )


def check_sync_batch_norm(device: torch.device) -> None:
    """Raises ValueError where torch has no SyncBatchNorm."""
    if device.type == "cpu":
        raise ValueError(
            "sync_batch_norm: true needs an accelerator: torch.nn.SyncBatchNorm does not run on the CPU. Set it to "
            "false and let each process use the statistics of its own micro-batch, or train in one process."
        )


def synchronise_batch_norm(model: nn.Module, args: TrainingArguments) -> None:
    """Turns a model's BatchNorm into SyncBatchNorm, in place, if asked for with several processes."""
    if own_arguments(args).sync_batch_norm and args.world_size > 1:
        from timm.layers import convert_sync_batchnorm  # timm is slow to import

        check_sync_batch_norm(args.device)
        convert_sync_batchnorm(model)


def warn_if_not_compiled(trainer: Trainer) -> None:
    """Warns that a model that cannot be compiled trains uncompiled."""
    if trainer.args.torch_compile and not trainer.face.can_be_compiled:
        warnings.warn(
            f"torch_compile has no effect on {type(trainer.model).__name__}: it runs uncompiled, with the same "
            "results. Leave torch_compile out.",
            stacklevel=3,
        )


def check_own_loss(trainer: Trainer) -> None:
    """Raises ValueError if a loss computed outside the model would replace more than the cross-entropy of its logits:
    the training of its own classifiers, or another loss that its config names."""
    task, rows = trainer.face.task, trainer.train_dataset
    if trainer.args.label_smoothing_factor and task.problem_type != CLASSIFICATION.problem_type:
        raise ValueError(
            f"label_smoothing_factor smooths one class out of several, but the model's task is {task.problem_type}. "
            "Leave it out; labels of multi_label_classification can be smoothed in the data, (1 - e) y + e / 2."
        )
    if trainer.label_smoother is None and trainer.compute_loss_func is None:
        return
    if task.counts_tokens:
        raise ValueError(
            "The model is a language model, whose own loss compute_loss_func would replace, and the labels that its "
            "scores need would not reach it. Leave it out, or change the model's loss."
        )
    if task.class_weights is not None:
        raise ValueError(
            "The model's config has class_weights, but label_smoothing_factor or compute_loss_func replaces that "
            "loss. Leave one of the two out, or smooth the labels in the data (probabilities of the classes)."
        )
    if isinstance(rows, datasets.Dataset) and SAMPLE_WEIGHT in rows.column_names:
        raise ValueError(WEIGHTS_UNSEEN)
    if trainer.face.auxiliary_heads:
        raise ValueError(
            "The model has auxiliary heads, which its own loss trains, but label_smoothing_factor or "
            "compute_loss_func replaces that loss. Leave these out, or set auxiliary_loss_weight: null and "
            "unimodal_prediction: auto in the model's config."
        )
    if trainer.face.other_loss:
        raise ValueError(
            f"The model's config has {trainer.face.other_loss}, but label_smoothing_factor or compute_loss_func "
            "replaces that loss. Leave these out, or set segment_loss: cross_entropy."
        )
