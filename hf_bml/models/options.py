"""What a head may read of a model's configuration, and checks of options that several parts of a model share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Protocol

from ..ground.suggestion import check_options


class HeadOptions(Protocol):
    """The options of a fusion head; [`MultimodalConfig`] has them and says what they mean."""

    num_labels: int
    fusion: str
    conditioning: str | None
    head_hidden_sizes: Sequence[int]
    head_dropout: float
    bias_split: Mapping[str, float] | None
    logit_bound: float
    cosine_scale: float
    shared_prediction: str
    shared_width: int | None


def chosen_options(kind: str, name: str, owners: Mapping[str, Any], options: Any) -> Any:
    """The options of a chosen interaction or architecture as its dataclass.

    Args:
        kind: what is chosen, for messages.
        name: a key of `owners`, each of which has an `options_class`.
        owners: what could be chosen.
        options: a mapping, or None for the defaults.

    Raises:
        ValueError: not a mapping, an unknown option (the closest valid one is named), or a value out of range.
    """
    if not isinstance(options, Mapping | None):
        raise ValueError(f"{kind}_options must be a dict, found {options!r}.")
    what, options_class = f"{kind} {name!r}", owners[name].options_class
    check_options(what, options or {}, [f.name for f in fields(options_class)])
    try:
        return options_class(**(options or {}))
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from error


def is_number(value: Any) -> bool:
    """Whether `value` is an int or float, not a bool."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_size(value: Any, least: int = 1) -> bool:
    """Whether `value` is an int of at least `least`, not a bool."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def check_size(name: str, value: Any, least: int = 1) -> None:
    """Raises ValueError unless `value` is a size."""
    if not is_size(value, least):
        raise ValueError(f"{name} must be an integer of at least {least}, found {value!r}.")


def check_sizes(options: Any, *names: str) -> None:
    """Raises ValueError unless these fields of a dataclass are sizes."""
    for name in names:
        check_size(name, vars(options)[name])


def check_fraction(name: str, value: Any) -> None:
    """Raises ValueError unless `value` is a number in [0, 1)."""
    if not is_number(value) or not 0 <= value < 1:
        raise ValueError(f"{name} must be in [0, 1), found {value!r}.")


def check_flag(name: str, value: Any) -> None:
    """Raises ValueError unless `value` is a bool."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, found {value!r}.")


def check_positive(name: str, value: Any) -> None:
    """Raises ValueError unless `value` is a finite number above 0."""
    if not is_number(value) or not 0 < value < float("inf"):
        raise ValueError(f"{name} must be a number above 0, found {value!r}.")


def check_weight(name: str, value: Any) -> None:
    """Raises ValueError unless `value` is a finite number of at least 0."""
    if not is_number(value) or not 0 <= value < float("inf"):
        raise ValueError(f"{name} must be a number of at least 0, found {value!r}.")


def check_attention(options: Any) -> None:
    """Raises ValueError unless a dataclass's `hidden_size`, `num_heads`, `feedforward_size` and `dropout` can be
    those of attention layers."""
    check_sizes(options, "hidden_size", "num_heads")
    if options.feedforward_size is not None:
        check_size("feedforward_size", options.feedforward_size)
    if options.hidden_size % options.num_heads:
        raise ValueError(f"hidden_size {options.hidden_size} must be a multiple of num_heads {options.num_heads}.")
    check_fraction("dropout", options.dropout)


def number_list(name: str, values: Any, length: int) -> list[float]:
    """`values` as a list of floats, checked: as many finite numbers as `length`."""
    is_list = isinstance(values, Sequence) and not isinstance(values, str)
    if not is_list or len(values) != length or not all(is_number(v) and math.isfinite(v) for v in values):
        raise ValueError(f"{name} must be a list of {length} numbers, one a label (num_labels), found {values!r}.")
    return [float(value) for value in values]


def size_list(name: str, values: Any, least: int = 0) -> list[int]:
    """`values` as a list, checked: at least `least` positive integers."""
    if isinstance(values, str) or not isinstance(values, Sequence) or not all(map(is_size, values)):
        raise ValueError(f"{name} must be a list of positive integers, such as [64, 32], found {values!r}.")
    if len(values) < least:
        raise ValueError(f"{name} must be a list of at least {least} size, such as [64, 32], found {list(values)}.")
    return list(values)
