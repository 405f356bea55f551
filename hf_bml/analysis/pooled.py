"""Differences of methods over several data sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import pandas as pd

from .comparison_table import INTERVAL, interval_cell
from .references import baseline_row, control_row, difference, reference_row
from .row import Row
from .summary import PairedDifference, markdown_table, paired_difference


def method_names(rows: Sequence[Row]) -> list[str]:
    """What the rows' methods are called over data sets: with the recipes' names where a set has several recipes."""
    sources = list(dict.fromkeys((row.dataset, row.source) for row in rows))
    one_each = len({dataset for dataset, _ in sources}) == len(sources)
    return [row.label if one_each else row.sourced for row in rows]


def pooled_records(
    rows: Sequence[Row], metrics: Sequence[str], other_row: Callable[[Row], Row | None]
) -> list[dict[str, Any]]:
    """Each method's difference to another row of its data set, over sets: mean, and Student's 95 % interval over the
    sets, of which each counts once.

    Args:
        rows: of several data sets; of one method, rows of equally named recipes (or the only ones of their sets) are
            pooled, and several of one set count as their mean.
        metrics: of the differences.
        other_row: what a row is compared to.

    Returns:
        one mapping per method but those compared to, in the order of the rows: `method`, and per metric `sets` (those
        in which both rows have it), `mean`, `low` and `high`.
    """
    found = []
    for row, name in zip(rows, method_names(rows), strict=True):
        other = other_row(row)
        if other is not None and other is not row:
            own = {metric: difference(row, other, metric) for metric in metrics}
            means = {metric: paired.mean for metric, paired in own.items() if paired is not None}
            found.append({"method": name, "dataset": row.dataset, **means})
    if not found:
        return []
    records = []
    by_set = pd.DataFrame(found).groupby(["method", "dataset"], sort=False).mean()
    for method, of_sets in by_set.groupby(level="method", sort=False):
        record: dict[str, Any] = {"method": method}
        for metric, values in of_sets.items():
            if len(values := values.dropna()):
                record[metric] = {"sets": len(values), **asdict(paired_difference(values, 0 * values))}
        records.append(record)
    return records


def pooled_table(rows: Sequence[Row], metrics: Sequence[str], control: str | None = None) -> str:
    """`pooled_records` in Markdown, to the baseline and to the control, and what it is; empty for a single set."""
    sets = list(dict.fromkeys(row.dataset for row in rows))
    if len(sets) < 2:
        return ""

    def cell(found: Mapping[str, Any] | None, metric: str) -> str:
        if found is None:
            return "-"
        pooled = PairedDifference(found["mean"], found["low"], found["high"])
        return f"{interval_cell(pooled, metric)} ({found['sets']})"

    others = {reference_row(rows[0], rows).label: partial(baseline_row, rows=rows)}
    if control is not None:
        others[control] = partial(control_row, rows=rows, control=control, metric=metrics[0])
    parts = []
    for name, other_row in others.items():
        records = pooled_records(rows, metrics, other_row)
        lines = [[record["method"], *(cell(record.get(metric), metric) for metric in metrics)] for record in records]
        header = ["method", *(f"{metric}: difference to {name} {INTERVAL} (sets)" for metric in metrics)]
        parts += [markdown_table(header, lines)] if lines else []
    explained = (
        f"Pooled over {len(sets)} data sets ({', '.join(sets)}): the mean over sets of each set's mean paired "
        "difference, with Student's interval over the sets (their number - 1 degrees of freedom). "
        "Every set counts once, whatever its size and number of runs."
    )
    return "\n\n".join([*parts, explained]) if parts else ""
