"""The properties of every modulation, to be checked for one of your own, in pytest or without it.

```python
import pytest
from hf_bml.testing import PROPERTIES, check

@pytest.mark.parametrize("property", PROPERTIES)
def test_my_method(property):
    check("my_module:MyMethod", property, weight=0.5)
```

The trainings take a second or two, on the CPU, with tiny models and data. What `TWO_PROCESSES` names starts two
processes, once for each method; `launch` does so once for several.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..modulation import Modulation
from . import processes
from .properties import PROPERTIES as _PROPERTIES
from .properties import plain_training
from .training import subject_of

__all__ = ["PROPERTIES", "TWO_PROCESSES", "check", "launch"]

PROPERTIES: tuple[str, ...] = tuple(_PROPERTIES)
TWO_PROCESSES = ("two processes", "own losses", "fsdp2", "bf16")
_ALL = {**_PROPERTIES, "plain training": plain_training}


def check(method: type[Modulation] | str, property: str, **options: Any) -> str | None:
    """Checks one property of a modulation.

    Args:
        method: its class, its name in the registry, or `package.module:Name`.
        property: one of `PROPERTIES`; or `"plain training"`, that with these options the method changes nothing.
        options: of the method, over its `example_options`.

    Returns:
        the message with which the method refuses the setting, where it may; None if it works.

    Raises:
        AssertionError: the property does not hold, or the method refuses a setting where it must not; the message
            says what differs.
        TypeError: what is given is not a modulation, or not one that another process can import.
        ValueError: no such method or property.

    Example:
        >>> check("ogm", "plain training", alpha=0)
    """
    if property not in _ALL:
        raise ValueError(f"Unknown property {property!r}; expected one of {list(_ALL)}.")
    subject = subject_of(method, options)
    try:
        return _ALL[property](subject)
    except (AssertionError, ValueError) as error:
        raise AssertionError(f"{subject.method.name}, {property}: {error}") from error


def launch(methods: Iterable[type[Modulation] | str], folder: str | Path | None = None) -> None:
    """Runs what needs two processes for several methods, without options, in one launch; `check` finds it then.

    Args:
        methods: as of `check`.
        folder: in which other processes, such as those of pytest-xdist, find what one of them has launched.
    """
    subjects = [subject_of(method, {}) for method in methods]
    if folder is None:
        processes.run(subjects)
    else:
        processes.run_once(subjects, Path(folder))
