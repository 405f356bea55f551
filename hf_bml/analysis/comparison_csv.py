"""The numbers of a comparison, unscaled: a line per row, a line per run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from .metric_names import metric_names
from .references import baseline_row, control_row, difference, relative_time
from .row import Row


def row_records(rows: Sequence[Row], metric: str, control: str | None = None) -> list[dict[str, Any]]:
    """What `comparison_table` shows as numbers, one mapping per row, and the means of everything else; unscaled."""
    names = metric_names(rows)
    records = []
    for row in rows:
        record = {**described(row), "seeds": len(row.runs), **mean_record(row, names)}
        record["relative_train_seconds"] = relative_time(row, rows)
        record["relative_epoch_seconds"] = relative_time(row, rows, "epoch_seconds")
        record |= difference_record("baseline", row, baseline_row(row, rows), metric)
        if control is not None:
            record |= difference_record("control", row, control_row(row, rows, control, metric), metric)
        records.append(record)
    return records


def mean_record(row: Row, names: Iterable[str]) -> dict[str, float]:
    """`<name>_mean` and `<name>_std` of each quantity; NaN where the row lacks it."""
    return {k: v for name in names for k, v in ((f"{name}_mean", row.mean(name)), (f"{name}_std", row.spread(name)))}


def run_records(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """One mapping per run: what its row is, and everything that is known of the run."""
    return [{**described(row), **run} for row in rows for run in row.runs]


def described(row: Row) -> dict[str, str]:
    """The columns that say what a row is."""
    setting = {"setting": row.setting} if row.setting else {}
    return {"recipe": row.recipe, "method": row.label, "model": row.model, **setting}


def difference_record(what: str, row: Row, other: Row | None, metric: str) -> dict[str, Any]:
    """`<what>`, the other row's label, and `<metric>_minus_<what>` with `_low` and `_high`; empty to itself."""
    found = difference(row, other, metric) if other is not None and other is not row else None
    mean, low, high = (found.mean, found.low, found.high) if found is not None else (math.nan,) * 3
    name = f"{metric}_minus_{what}"
    return {what: "" if other is None else other.label, name: mean, f"{name}_low": low, f"{name}_high": high}


def write_csv(records: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """Writes mappings as a table, the columns in the order in which they first appear; NaN becomes an empty cell."""
    pd.DataFrame(records, dtype=object).to_csv(path, index=False, lineterminator="\n")
