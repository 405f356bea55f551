"""Names that a user gives: found in a registry or imported, and the hint for a mistyped one."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

_MAY_IMPORT = ContextVar("_MAY_IMPORT", default=True)
Named = TypeVar("Named")


def did_you_mean(name: object, valid: Iterable[str]) -> str:
    """`" Did you mean 'visual'?"` for the closest of `valid`, or `""` if none is close.

    Example:
        >>> did_you_mean("vsual", ["audio", "visual"])
        " Did you mean 'visual'?"
    """
    close = difflib.get_close_matches(str(name), list(valid), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


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
    """Within it `find_named` imports nothing: a file from elsewhere must not decide what code runs here."""
    token = _MAY_IMPORT.set(False)
    try:
        yield
    finally:
        _MAY_IMPORT.reset(token)


def find_named(what: str, name: str, registry: MutableMapping[str, Named]) -> Named:
    """What a name stands for: an entry of a registry, or `package.module:Name`, which is imported and registered.

    Args:
        what: kind of the thing, for messages.
        name: as the user gave it.
        registry: of this kind.

    Raises:
        ValueError: an unknown name (the closest one is named), a path that cannot be imported, or one that may not be.
    """
    if name in registry:
        return registry[name]
    if not isinstance(name, str) or ":" not in name:
        hint = did_you_mean(name, registry)
        raise ValueError(f"Unknown {what} {name!r}.{hint} Known: {sorted(registry)}, or 'package.module:Name'.")
    if not _MAY_IMPORT.get():
        raise ValueError(
            f"The {what} {name!r} is not registered, and a saved file does not decide what is imported. Import its "
            f"module and register it yourself before loading: find_named({what!r}, {name!r}, registry)."
        )
    registry[name] = import_named(name)
    return registry[name]


def import_named(path: str) -> Any:
    """The object behind `package.module:Name`.

    Raises:
        ValueError: not such a path, no such module, or no such name in it.
    """
    module_name, _, name = path.partition(":")
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
