"""Names that a user gives: found in a registry or imported, and the hint for a mistyped one."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, TypeVar

_MAY_IMPORT = ContextVar("_MAY_IMPORT", default=True)
Named = TypeVar("Named")
NOTHING: Mapping[str, Any] = MappingProxyType({})


def did_you_mean(name: object, valid: Iterable[str]) -> str:
    """`" Did you mean 'visual'?"` for the closest of `valid`, or `""` if none is close.

    Example:
        >>> did_you_mean("vsual", ["audio", "visual"])
        " Did you mean 'visual'?"
    """
    close = difflib.get_close_matches(str(name), list(valid), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def check_name(option: str, value: Any, valid: Iterable[str]) -> None:
    """Raises ValueError, naming the closest valid name, unless the `value` of an option is one of `valid`."""
    valid = list(valid)
    if not isinstance(value, str) or value not in valid:
        raise ValueError(f"{option} must be one of {valid}, found {value!r}.{did_you_mean(value, valid)}")


def check_options(owner: str, options: Iterable[str], valid: Iterable[str]) -> None:
    """Raises ValueError, naming the closest valid one, for an option that `owner` does not have."""
    valid = list(valid)
    for option in options:
        if option not in valid:
            raise ValueError(
                f"{owner} has no option {option!r}.{did_you_mean(option, valid)} Its options are: {valid}."
            )


@contextmanager
def registered_names_only() -> Iterator[None]:
    """Within it a `Registry` imports nothing: a file from elsewhere must not decide what code runs here."""
    token = _MAY_IMPORT.set(False)
    try:
        yield
    finally:
        _MAY_IMPORT.reset(token)


class Registry(dict[str, Named]):
    """Classes by name, to which a user's own are added by path.

    Args:
        what: kind of the thing, for messages.
        base: what every entry is a subclass of.
        place: where users find this registry, such as "hf_bml.models.FUSIONS".
        entries: those of this package.

    Example:
        >>> Registry("number", int, "package.NUMBERS", {"switch": bool}).find("switch")
        <class 'bool'>
    """

    def __init__(self, what: str, base: type, place: str, entries: Mapping[str, Named]):
        super().__init__(entries)
        self.what, self.base, self.place = what, base, place

    def find(self, name: Any, also: Mapping[str, Any] = NOTHING) -> Any:
        """What a name stands for: an entry, or `package.module:Name`, which is imported and registered.

        Args:
            name: as the user gave it.
            also: further entries that are valid here.

        Raises:
            ValueError: an unknown name (the closest one is named), a path that cannot be imported, one of another kind
                of thing, or one that may not be imported (see `registered_names_only`).
        """
        known = {**also, **self}
        if isinstance(name, str) and name in known:
            return known[name]
        if not isinstance(name, str) or ":" not in name:
            hint = did_you_mean(name, known) if isinstance(name, str) else ""
            raise ValueError(f"Unknown {self.what} {name!r}.{hint} Known: {list(known)}, or 'package.module:Name'.")
        if not _MAY_IMPORT.get():
            module, _, own = name.partition(":")
            raise ValueError(
                f"The {self.what} {name!r} is not registered, and a saved file does not decide what is imported. If "
                f"it is yours, register it before loading: from {module} import {own}; {self.place}[{name!r}] = {own}."
            )
        found = import_named(name)
        if not (isinstance(found, type) and issubclass(found, self.base)):
            raise ValueError(f"Expected a subclass of {self.base.__name__} in {name!r}, found {found!r}.")
        self[name] = found
        return found


def import_named(path: str) -> Any:
    """The object behind `package.module:Name`, or `package.module.Name`.

    Raises:
        ValueError: not such a path, no such module, or no such name in it.
    """
    module_name, _, name = path.partition(":") if ":" in path else path.rpartition(".")
    if not module_name or not name or module_name.startswith("."):
        raise ValueError(f"Expected 'package.module:Name', found {path!r}. Give both the module and the name.")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise ValueError(
            f"Expected an importable module in {path!r}, found no module {error.name!r}. Correct the path, or put the "
            "module on PYTHONPATH."
        ) from error
    if name not in vars(module):
        raise ValueError(f"Expected {name!r} in module {module_name!r}, found none.{did_you_mean(name, vars(module))}")
    return vars(module)[name]
