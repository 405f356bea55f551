"""What a row is compared to, and by how much it differs; which row is the best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .metric_names import lower_is_better, validation_metric
from .row import PLAIN, Row, per_unit, row_overlap
from .summary import PairedDifference, paired_difference


def reference_row(row: Row, rows: Sequence[Row]) -> Row:
    """`none` of the row's recipe, on the recipe's own model if it is there; without any `none` the first row."""
    same_recipe = [other for other in rows if other.recipe == row.recipe]
    plain = sorted((other for other in same_recipe if other.methods == PLAIN), key=lambda other: other.model != "")
    return (plain or same_recipe)[0]


def baseline_row(row: Row, rows: Sequence[Row]) -> Row:
    """What a row is compared to: `none` on the same model if it is there, else the reference."""
    if row.methods != PLAIN:
        for other in rows:
            if (other.methods, other.recipe, other.model) == (PLAIN, row.recipe, row.model):
                return other
    return reference_row(row, rows)


def is_control(row: Row, control: str) -> bool:
    """Whether `control` is the row's label or its method, with any options; a combination is another method. With
    the recipe's name before it, `concat: none`, it is that recipe's."""
    return control in (row.label, row.methods, row.sourced, f"{row.source}: {row.methods}")


def control_row(row: Row, rows: Sequence[Row], control: str, metric: str) -> Row | None:
    """The control with the best mean validation `metric` (accuracy, where validation lacks it).

    Of the same recipe, else of the same data set, and of the same model if there is one; None without any.
    """
    controls = [other for other in rows if is_control(other, control)]
    candidates = [other for other in controls if other.recipe == row.recipe]
    candidates = candidates or [other for other in controls if other.dataset == row.dataset != ""]
    candidates = [other for other in candidates if other.model == row.model] or candidates
    if not candidates:
        return None
    return best_row(candidates, metric)


def best_labels(rows: Sequence[Row], control: str, metric: str) -> list[str]:
    """Labels of the best controls, first the first row's; one per recipe and model."""
    found = [control_row(row, rows, control, metric) for row in rows]
    return list(dict.fromkeys(row.label for row in found if row is not None)) or [control]


def best_row(rows: Sequence[Row], metric: str) -> Row:
    """The row with the best mean of the validation split's `metric`; of equal ones the first."""
    key = validation_metric(rows, metric)
    return rows[best_value([row.mean(key) for row in rows], key)]


def best_run(runs: Sequence[Mapping[str, Any]], metric: str) -> int:
    """The index of the run with the best value of a metric; of equal ones the first."""
    return best_value([run.get(metric, math.nan) for run in runs], metric)


def best_value(values: Sequence[float], metric: str) -> int:
    """The index of the best value, where NaN is the worst; of equal ones the first."""
    sign = -1 if lower_is_better(metric) else 1
    return max(range(len(values)), key=lambda index: -math.inf if math.isnan(values[index]) else sign * values[index])


def difference(row: Row, other: Row, metric: str) -> PairedDifference | None:
    """The paired difference of two rows over their common seeds, or folds; None without any, or if a run lacks the
    metric."""
    if not all(metric in run for run in [*row.runs, *other.runs]):
        return None
    ours, theirs = row.by_run(metric), other.by_run(metric)
    common = ours.index.intersection(theirs.index, sort=False)
    if common.empty:
        return None
    return paired_difference(*(per_unit(values[common]) for values in (ours, theirs)), overlap=row_overlap(row.runs))


def relative_time(row: Row, rows: Sequence[Row], time: str = "train_seconds") -> float:
    """Mean of a time over the runs, divided by the reference's; NaN where one of them was not measured."""
    return row.mean(time) / reference_row(row, rows).mean(time)
