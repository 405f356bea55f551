"""What users' models and encoders return, in any form: its fields, parts and tensors."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

FEATURE_FIELDS = ("pooler_output", "last_hidden_state")


def get(output: Any, field: str | int | None) -> Any:
    """A field of a model's output, whether it is an object, a mapping, a tuple, or the tensor itself (field None)."""
    if field is None or isinstance(output, Tensor):
        return output
    if isinstance(field, int):
        return part(output, field)
    if isinstance(output, Mapping):
        return output.get(field)
    return getattr(output, field, None)  # of any class


def is_plain_tuple(output: Any) -> bool:
    """Whether an output is a tuple or list without names, as of a transformers model with `return_dict=False`."""
    return isinstance(output, (tuple, list)) and not is_named_tuple(output)


def is_named_tuple(output: Any) -> bool:
    """Whether an output is a tuple with names."""
    return hasattr(output, "_fields")  # named tuples have no common class


def logits_of(output: Any, field: str) -> Any:
    """The logits in a model's output: a field, the output itself if it is a tensor, or the first tensor of a tuple
    that is not a scalar; None if there are none."""
    if is_plain_tuple(output):
        return next((item for item in output if isinstance(item, Tensor) and item.dim()), None)
    return get(output, field)


def loss_of(output: Any) -> Tensor | None:
    """The loss in a model's output, 0-d: its field `loss`, or the first item of a tuple if that is a scalar.

    None if there is none: a tensor alone is logits.

    Raises:
        ValueError: a `loss` that is not a scalar.
    """
    if isinstance(output, Tensor):
        return None
    if is_plain_tuple(output):
        first = output[0] if output else None
        return first if isinstance(first, Tensor) and first.dim() == 0 else None
    loss = get(output, "loss")
    if loss is None:
        return None
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        found = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise ValueError(
            f"expected a model's loss to be a scalar tensor, found {found}. Return its mean over the batch, or None: "
            "then it is the cross-entropy of the logits."
        )
    return loss.reshape(())


def part(output: Any, index: int) -> Tensor:
    """The tensor at an index of a tuple.

    Raises:
        ValueError: no tuple, or none there.
    """
    found = type(output).__name__
    if isinstance(output, (tuple, list)):
        if -len(output) <= index < len(output) and isinstance(output[index], Tensor):
            return output[index]
        found = f"a {found} of {[type(item).__name__ for item in output]}"
    raise ValueError(f"features: expected an encoder that returns a tuple with a tensor at {index}, found {found}.")


def feature_field(output: Any, field: str | int | None) -> str | int | None:
    """The field of an encoder's output that is its feature; None for a plain tensor.

    Raises:
        ValueError: there is none.
    """
    if isinstance(output, Tensor):
        return None
    for name in (field,) if field is not None else FEATURE_FIELDS:
        if isinstance(get(output, name), Tensor):
            return name
    found = f"{type(output).__name__} with {list(output)}" if isinstance(output, Mapping) else type(output).__name__
    raise ValueError(
        f"expected an encoder's output to be a tensor or to have {field or ' or '.join(FEATURE_FIELDS)}, found "
        f"{found}. Name the field (of a tuple, the index) in `features`."
    )


def replaced(output: Any, field: str | int | None, feature: Tensor) -> Any:
    """The output with its feature replaced."""
    if field is None:
        return feature
    if isinstance(field, int):
        items = list(output)
        items[field] = feature
        return type(output)(*items) if is_named_tuple(output) else type(output)(items)
    if isinstance(output, Mapping):
        return type(output)({**output, field: feature})
    if is_named_tuple(output):
        return output._replace(**{field: feature})
    if is_dataclass(output):
        return with_fields(output, {field: feature})
    raise ValueError(
        f"cannot replace {field!r} in a {type(output).__name__}; return a mapping, a dataclass or a ModelOutput."
    )


def with_fields(record: Any, values: Mapping[str, Any]) -> Any:
    """A copy of a dataclass object, frozen or not, with other values in some fields; nothing runs on its creation."""
    changed = copy.copy(record)
    for name, value in values.items():
        object.__setattr__(changed, name, value)
    return changed


def zeroed(calls: Sequence[Any], keep: Tensor | None = None, counts: Tensor | None = None) -> list[Any]:
    """An encoder's outputs, one a call, with zeros in every floating-point tensor.

    Args:
        calls: the outputs.
        keep: optional bool `(batch,)`, True for samples that stay as they are. A tensor whose first axis is a multiple
            of the batch (frames, patches) has that many rows a sample.
        counts: optional `(batch,)`, in which relation the rows are the samples', in their order.
    """
    return [map_tensors(output, lambda value: zero_rows(value, keep, counts)) for output in calls]


def zero_rows(value: Tensor, keep: Tensor | None, counts: Tensor | None = None) -> Tensor:
    """See [`zeroed`]."""
    if not value.is_floating_point():
        return value
    if keep is None:
        return torch.zeros_like(value)
    if counts is not None and value.dim():
        keep = keep[sample_of_row(counts, len(value))]
    elif value.dim() == 0 or len(value) % len(keep):
        raise ValueError(
            f"expected an encoder's output with a row per sample, found shape {tuple(value.shape)} for a batch of "
            f"{len(keep)}. Name a module whose output has the batch in front."
        )
    else:
        keep = keep.repeat_interleave(len(value) // len(keep))
    return torch.where(keep.view(-1, *[1] * (value.dim() - 1)), value, 0.0)


def sample_of_row(counts: Tensor, rows: int) -> Tensor:
    """Which sample each of the rows belongs to, int64 `(rows,)`; no host sync.

    Args:
        counts: `(batch,)`, how many of some unit each sample has; a row is any number of units, or any part of one.
        rows: those of all samples, one sample's after another's.

    Example:
        >>> sample_of_row(torch.tensor([4, 0, 8]), 3), sample_of_row(torch.tensor([1, 2]), 6)
        (tensor([0, 2, 2]), tensor([0, 0, 1, 1, 1, 1]))
    """
    ends = counts.cumsum(0)
    starts = torch.arange(rows, device=counts.device) * ends[-1]
    return torch.searchsorted(ends * rows, starts, right=True).clamp_max(len(counts) - 1)


def rows_of(output: Any, rows: Tensor, samples: int) -> Any:
    """The output for some samples: their rows of every tensor whose first axis is a multiple of the batch.

    Args:
        output: of any form.
        rows: int64 `(chosen,)`, numbers of samples.
        samples: of the batch.
    """

    def chosen(value: Tensor) -> Tensor:
        if value.dim() == 0 or len(value) == 0 or len(value) % samples:
            return value
        return value.unflatten(0, (samples, -1))[rows].flatten(0, 1)

    return map_tensors(output, chosen)


def spread_rows(samples: int, fraction: float, device: torch.device) -> Tensor | None:
    """The samples that a fraction of a batch consists of, evenly spread over it; None for all.

    Returns:
        int64 `(rows,)`, as many as the fraction rounded, but at least one.

    Example:
        >>> spread_rows(8, 0.5, torch.device("cpu"))
        tensor([0, 2, 4, 6])
    """
    count = max(1, round(samples * fraction))
    return None if count >= samples else torch.arange(count, device=device) * samples // count


def shapes(calls: Sequence[Any]) -> str:
    """Of every tensor in an encoder's outputs, for a message."""
    return ", ".join(str(tuple(tensor.shape)) for tensor in tensors(calls))


def tensors(output: Any) -> list[Tensor]:
    """Every tensor inside an output, as `map_tensors` finds them."""
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    map_tensors(output, note)
    return found


def map_tensors(output: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Applies a function to every tensor inside an output, however containers, mappings and dataclasses hold it."""
    leaves, structure = tree_flatten(output)
    return tree_unflatten([_mapped(leaf, function) for leaf in leaves], structure)


def _mapped(leaf: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """One leaf of an output: a tensor, or what torch's pytree does not know as a container."""
    if isinstance(leaf, Tensor):
        return function(leaf)
    if isinstance(leaf, MutableMapping):
        changed = copy.copy(leaf)
        changed.update({key: map_tensors(value, function) for key, value in leaf.items()})
        return changed
    if is_dataclass(leaf) and not isinstance(leaf, type):
        values = {f.name: getattr(leaf, f.name) for f in fields(leaf)}  # not vars: it may have slots
        return with_fields(leaf, {name: map_tensors(value, function) for name, value in values.items()})
    return leaf


def copied(output: Any) -> Any:
    """The output with containers and tensors of its own; gradients flow on."""
    return map_tensors(output, Tensor.clone)


def same(first: Sequence[Any], second: Sequence[Any]) -> bool:
    """Whether two lists of outputs hold equal tensors, up to rounding of the largest number in each."""
    one, other = tensors(first), tensors(second)
    return len(one) == len(other) and all(
        a.shape == b.shape and equal_but_for_rounding(a.float(), b.float()) for a, b in zip(one, other, strict=True)
    )


def equal_but_for_rounding(one: Tensor, other: Tensor) -> bool:
    """Whether all elements differ by less than 1e-5 of the largest of them."""
    if one.numel() == 0 or torch.equal(one, other):
        return True
    return bool((one - other).abs().max() <= 1e-5 * torch.maximum(one.abs().max(), other.abs().max()))
