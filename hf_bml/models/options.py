"""What a head may read of a model's configuration, and checks of options that several parts of a model share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any, Protocol

from ..ground.suggestion import check_options, did_you_mean


class HeadOptions(Protocol):
    """The options of a fusion head; [`MultimodalConfig`] has them and says what they mean."""

    num_labels: int
    fusion: str
    conditioning: str | None
    head_hidden_sizes: Sequence[int]
    head_dropout: float
    bias_split: Mapping[str, float] | None


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


def check_weight(name: str, value: Any) -> None:
    """Raises ValueError unless `value` is a finite number of at least 0."""
    if not is_number(value) or not 0 <= value < float("inf"):
        raise ValueError(f"{name} must be a number of at least 0, found {value!r}.")


def check_name(option: str, value: Any, valid: Iterable[str]) -> None:
    """Raises ValueError, naming the closest valid name, unless `value` is one of `valid`."""
    if not isinstance(value, str) or value not in valid:
        raise ValueError(f"{option} must be one of {list(valid)}, found {value!r}.{did_you_mean(value, valid)}")


def chosen_options(kind: str, name: str, options_class: type, options: Any) -> Any:
    """The options of what a config chooses, such as `kind` architecture, as their dataclass.

    Raises:
        ValueError: not a mapping, an unknown option, or a value that the dataclass refuses.
    """
    if not isinstance(options, Mapping | None):
        raise ValueError(f"{kind}_options must be a dict, found {options!r}.")
    options = dict(options or {})
    check_options(f"{kind} {name!r}", options, [f.name for f in fields(options_class)])
    try:
        return options_class(**options)
    except ValueError as error:
        raise ValueError(f"{kind} {name!r}: {error}") from error


def size_list(name: str, values: Any) -> list[int]:
    """`values` as a list, checked: positive integers."""
    if isinstance(values, str) or not isinstance(values, Sequence) or not all(map(is_size, values)):
        raise ValueError(f"{name} must be a list of positive integers, such as [64, 32], found {values!r}.")
    return list(values)
