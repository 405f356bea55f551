"""Values that cannot be used: what is noted of them, and which rows are left out."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from datasets import Dataset

from .media.file import one_line

FAILURES = "_failures"  # column of the cached table: JSON, or None for a row without failure
Report = dict[str, list[dict[str, Any]]]


class Failure(NamedTuple):
    """A value that could not be used."""

    row: int
    modality: str
    file: str | None
    reason: str


def failure_reason(error: Exception, file: str | None = None) -> str:
    """One line that names the value's file where it has one, and the kind of an unexpected error."""
    reason = one_line(error)
    if not isinstance(error, ValueError):
        reason = f"expected a value that can be transformed, found {type(error).__name__}: {reason}"
    return reason if file is None or file in reason else f"{file}: {reason}"


def rows_without_modality(columns: dict[str, list]) -> list[bool]:
    """Which rows have no modality left."""
    return [all(value is None for value in values) for values in zip(*columns.values(), strict=True)]


def failure_record(failures: list[Failure], is_empty: bool, on_error: str) -> str | None:
    """JSON of a row's failures and whether the row is dropped; None for a row without failure."""
    failed = [{"modality": failure.modality, "file": failure.file, "reason": failure.reason} for failure in failures]
    if not failed and not is_empty:
        return None
    failed = failed or [{"modality": None, "file": None, "reason": "no modality is present"}]
    return json.dumps({"dropped": is_empty or on_error == "skip", "failures": failed})


def take_failures(name: str, split: Dataset) -> tuple[Dataset, list[dict[str, Any]]]:
    """The split without FAILURES and the dropped rows, and what failed.

    Raises:
        ValueError: no row is left.
    """
    records = [None if text is None else json.loads(text) for text in split.select_columns(FAILURES)[:][FAILURES]]
    split = split.remove_columns(FAILURES)
    failed = [
        {"row": row, **failure, "dropped": record["dropped"]}
        for row, record in enumerate(records)
        if record is not None
        for failure in record["failures"]
    ]
    kept = [row for row, record in enumerate(records) if record is None or not record["dropped"]]
    if records and not kept:
        reasons = "; ".join(sorted({failure["reason"] for failure in failed})[:3])
        raise ValueError(
            f"split {name!r}: expected some usable rows, found that all {len(records)} failed: {reasons}. "
            "Check the data and the processor's options; on_error='raise' stops at the first."
        )
    if len(kept) < len(records):
        split = split.select(kept)
    return split, failed
