"""Rows that a resuming training skips, so that they are not transformed for nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_ARE_SKIPPED = ContextVar("_ARE_SKIPPED", default=False)


def rows_are_skipped() -> bool:
    """Whether the rows that are read now are only counted."""
    return _ARE_SKIPPED.get()


@contextmanager
def skipping_rows(skips: bool = True) -> Iterator[None]:
    """Within it, `rows_are_skipped()` is `skips`; other threads do not see it."""
    token = _ARE_SKIPPED.set(skips)
    try:
        yield
    finally:
        _ARE_SKIPPED.reset(token)
