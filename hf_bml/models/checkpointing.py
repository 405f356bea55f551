"""Activation checkpointing: layers keep their input only, and compute the rest again in the backward pass."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.module_tracker import ModuleTracker
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from .frozen import normalisation_layers

INSTEAD = (
    "Save memory with a smaller per_device_train_batch_size and more gradient_accumulation_steps, which give the same "
    "update, or bf16."
)
IN_BACKWARD = ModuleTracker()  # only to ask; it tracks nothing


def transformers_models(module: nn.Module) -> list[PreTrainedModel]:
    """The outermost transformers models in a module."""
    if isinstance(module, PreTrainedModel):
        return [module]
    return [found for child in module.children() for found in transformers_models(child)]


def can_checkpoint(module: nn.Module) -> bool:
    """Whether a module has transformers models, or layers of their kind, that compute activations again."""
    return any(model.supports_gradient_checkpointing for model in transformers_models(module)) or any(
        isinstance(part, GradientCheckpointingLayer) for part in module.modules()
    )


def checkpoint_layers(module: nn.Module, enable: bool, function: Callable[..., Any], every_n_layers: int) -> None:
    """Turns it on or off in what `can_checkpoint` finds.

    Args:
        module: any.
        enable: whether it is on.
        function: as `torch.utils.checkpoint.checkpoint`.
        every_n_layers: of the layers, how few do so, at least 1.
    """
    models = transformers_models(module)
    for model in models:
        if model.supports_gradient_checkpointing:
            model._set_gradient_checkpointing(enable, function, every_n_layers)
    inside = {part for model in models for part in model.modules()}
    layers = [part for part in module.modules() if isinstance(part, GradientCheckpointingLayer) and part not in inside]
    for index, layer in enumerate(layers):
        layer.gradient_checkpointing = enable and index % every_n_layers == 0
        layer._gradient_checkpointing_func = function


def checkpoint_balanced(model: nn.Module, paths: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Turns it on in the transformers models of a user's model; see [`BalancedModel`].

    Args:
        model: any.
        paths: per modality those of its modules.
        options: of transformers' `gradient_checkpointing_enable`.

    Raises:
        ValueError: `why_not_balanced`.
    """
    if reason := why_not_balanced(model, paths):
        raise ValueError(reason)
    for each in transformers_models(model):
        if each.supports_gradient_checkpointing:
            with warnings.catch_warnings():  # the older of two names, which every supported release has
                warnings.simplefilter("ignore", FutureWarning)
                each.gradient_checkpointing_enable(**options)
    keep_statistics(model)


def why_not_balanced(model: nn.Module, paths: Mapping[str, Any]) -> str | None:
    """Why a user's model cannot compute activations again while its encoders' outputs are replaced; None if it can."""
    if not any(each.supports_gradient_checkpointing for each in transformers_models(model)):
        return (
            f"activation checkpointing needs a transformers model that has it, found none in {type(model).__name__}. "
            f"Checkpoint its layers yourself, with use_reentrant=False, or leave it out. {INSTEAD}"
        )
    for name, path in ((name, path) for name, owned in paths.items() for path in owned):
        parts = path.split(".")
        for end in range(1, len(parts) + 1):
            if isinstance(model.get_submodule(".".join(parts[:end])), GradientCheckpointingLayer):
                return (
                    f"The encoder of {name!r}, {path}, is in {'.'.join(parts[:end])}, a layer that activation "
                    "checkpointing computes again in the backward pass, which would undo what is replaced there. "
                    f"Name a module outside the layers, or leave activation checkpointing out. {INSTEAD}"
                )
    return None


@contextmanager
def without_checkpointing(model: nn.Module) -> Iterator[None]:
    """Turns it off for a while in all layers of transformers, where what they compute with is replaced in between."""
    active = [part for part in model.modules() if vars(part).get("gradient_checkpointing")]
    for part in active:
        part.gradient_checkpointing = False
    try:
        yield
    finally:
        for part in active:
            part.gradient_checkpointing = True


def keep_statistics(model: nn.Module) -> None:
    """Lets the statistics of normalisation layers count a batch once, not again when it is computed again.

    Must be called where checkpointing is turned on; a second call changes nothing.
    """
    for layer in normalisation_layers(model):
        if not vars(layer).get("statistics_are_kept"):
            layer.statistics_are_kept = True  # a deep copy has this and the hooks
            layer.register_forward_pre_hook(_shelve_buffers)
            layer.register_forward_hook(_restore_buffers, always_call=True)  # checkpointing may stop half-way


def _shelve_buffers(layer: nn.Module, inputs: Any) -> None:
    """In the backward pass, lets a layer compute on copies of its buffers."""
    if not torch.compiler.is_compiling() and IN_BACKWARD.is_bw:
        # Writing the old values back in place would break the backward pass.
        layer.shelved_buffers = dict(layer._buffers)
        layer._buffers.update({name: None if b is None else b.clone() for name, b in layer._buffers.items()})


def _restore_buffers(layer: nn.Module, inputs: Any, output: Tensor) -> None:
    layer._buffers.update(vars(layer).pop("shelved_buffers", {}))
