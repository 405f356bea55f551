"""The hint that error messages give for a mistyped name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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
