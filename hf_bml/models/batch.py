"""A batch as the encoders get it: its checks, and what stands in for the samples that lack a modality."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..ground.suggestion import did_you_mean


def batch_tensor(inputs: Tensor | dict[str, Tensor]) -> Tensor:
    """A tensor of a modality's input that has a row per sample."""
    values = inputs.values() if isinstance(inputs, dict) else [inputs]
    return next(value for value in values if isinstance(value, Tensor) and value.dim())


def check_inputs(names: Collection[str], modalities: Mapping[str, Any], modality_mask: Tensor | None) -> None:
    """Raises ValueError unless the inputs are those of the modalities in `names`, and the mask fits them."""
    for name in modalities:
        if name not in names:
            hint = did_you_mean(name, names)
            raise ValueError(f"Unknown modality {name!r}.{hint} The model has {list(names)}.")
    missing = [name for name in names if name not in modalities]
    if missing:
        raise ValueError(
            f"The model has the modalities {list(names)}, found no input for {missing}. "
            f"Pass {missing[0]}=None if no sample of the batch has it, or mark samples in modality_mask."
        )
    given = [inputs for inputs in modalities.values() if inputs is not None]
    if not given:
        raise ValueError(f"At least one of the modalities {list(names)} needs an input, found none.")
    if modality_mask is not None:
        expected = batch_tensor(given[0]).shape[0], len(names)
        if modality_mask.shape != expected:
            raise ValueError(
                f"modality_mask must have the shape (batch, modalities) = {expected}, "
                f"found {tuple(modality_mask.shape)}."
            )


def presence(names: Collection[str], modalities: Mapping[str, Any], modality_mask: Tensor | None) -> Tensor | None:
    """`modality_mask (batch, modalities)`, bool, with the modalities marked absent that are None; None for none."""
    mask = None if modality_mask is None else modality_mask.bool()
    given = [modalities[name] is not None for name in names]
    if all(given):
        return mask
    example = batch_tensor(next(inputs for inputs in modalities.values() if inputs is not None))
    present = torch.tensor(given, device=example.device).expand(example.shape[0], -1)
    return present if mask is None else mask & present


def present_inputs(modalities: Mapping[str, Any], modality_mask: Tensor, names: Collection[str]) -> dict[str, Any]:
    """`modalities` with repeated present samples in the place of those that lack a modality."""
    present = dict(zip(names, modality_mask.bool().unbind(1), strict=True))
    return {name: repeat_present(inputs, present[name]) for name, inputs in modalities.items()}


def repeat_present(inputs: Tensor | dict[str, Tensor] | None, present: Tensor) -> Tensor | dict[str, Tensor] | None:
    """`inputs` with present samples, repeated cyclically, in the rows of the samples that are not `present (batch,)`.

    The j-th absent row gets the (j mod count)-th present one; with no present row, nothing changes. Static shapes, no
    host sync.
    """
    order = torch.argsort(~present, stable=True)  # the present rows, then the absent ones
    count = present.sum()
    count = torch.where(count > 0, count, len(present))
    source = order[torch.arange(len(present), device=present.device) % count]
    index = torch.empty_like(order).scatter(0, order, source)  # row order[k] <- row source[k]

    def pick(value: Any) -> Any:
        return value[index] if isinstance(value, Tensor) and value.shape[:1] == present.shape else value

    return {key: pick(value) for key, value in inputs.items()} if isinstance(inputs, dict) else pick(inputs)


def buffers_before(encoders: Iterable[nn.Module], modality_mask: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    """For `restore_buffers`: an encoder's buffers, such as BatchNorm's statistics, stay what they are when no sample
    of the batch has the modality. Static shapes, no host sync."""
    arrives = modality_mask.bool().any(0)  # (modalities,)
    return [
        (buffer, buffer.clone(), stays)
        for encoder, stays in zip(encoders, arrives.unbind(), strict=True)
        for buffer in encoder.buffers()
    ]


def restore_buffers(before: Sequence[tuple[Tensor, Tensor, Tensor]]) -> None:
    """Takes back what a forward did to buffers.

    Args:
        before: per buffer itself, a copy from before, and a bool scalar: whether what it holds now stays.
    """
    for buffer, old, stays in before:
        buffer.data.copy_(torch.where(stays, buffer, old))  # .data: BatchNorm's backward does not need the values
