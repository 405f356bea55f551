"""Rows of runs side by side: means over seeds, and paired differences to a baseline and to a control."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

from .metric_names import scale_and_digits, shown_metrics
from .references import baseline_row, best_labels, control_row, difference, reference_row, relative_time
from .row import Row
from .summary import PairedDifference, markdown_table

INTERVAL = "[95 % interval]"


def mean_cell(row: Row, metric: str) -> str:
    """Mean ± standard deviation; a dash without values."""
    scale, digits = scale_and_digits(metric)
    if not len(row.values(metric)):
        return "-"
    spread = row.spread(metric)
    return f"{scale * row.mean(metric):.{digits}f}" + ("" if math.isnan(spread) else f" ± {scale * spread:.{digits}f}")


def difference_cell(row: Row, other: Row | None, metric: str, usual: str) -> str:
    """Mean [low, high], and what it is a difference to unless that is the `usual` label; empty for the row itself.

    A single pair has no interval, nor have pairs that all differ alike.
    """
    if row is other:
        return ""
    found = difference(row, other, metric) if other is not None else None
    if found is None:
        return "-"
    return interval_cell(found, metric) + ("" if other.label == usual else f" to {other.label}")


def interval_cell(found: PairedDifference, metric: str) -> str:
    """Mean [low, high] of a difference of a metric; the mean alone where there is no interval."""
    scale, digits = scale_and_digits(metric)
    mean, low, high = (f"{scale * value:+.{digits}f}" for value in (found.mean, found.low, found.high))
    return mean + ("" if math.isnan(found.low) else f" [{low}, {high}]")


def comparison_table(rows: Sequence[Row], metric: str, control: str | None = None, columns: Sequence[str] = ()) -> str:
    """`comparison_cells` in Markdown."""
    return markdown_table(*comparison_cells(rows, metric, control, columns))


def comparison_cells(
    rows: Sequence[Row], metric: str, control: str | None = None, columns: Sequence[str] = ()
) -> tuple[list[str], list[list[str]]]:
    """Rows by metrics over seeds: mean ± standard deviation (n - 1), training time relative to the reference, and
    paired differences to the baseline and to the best control.

    Accuracies, mAP and F1 are shown times 100.

    Args:
        rows: differences are taken over the seeds that two rows share.
        metric: the metric of the paired differences; a dash where a row lacks it.
        control: see `is_control`; None for no such column.
        columns: further metrics to show, a dash where a row lacks one.

    Returns:
        header and lines.
    """
    reference = reference_row(rows[0], rows).label
    usual = best_labels(rows, control, metric)[0] if control is not None else ""

    def against_baseline(row: Row) -> str:
        return difference_cell(row, baseline_row(row, rows), metric, reference)

    def against_control(row: Row) -> str:
        return difference_cell(row, control_row(row, rows, control, metric), metric, usual)

    def time(name: str, row: Row) -> str:
        return number(relative_time(row, rows, name))

    metrics = list(dict.fromkeys([*shown_metrics(rows), *columns]))
    table: list[tuple[bool, str, Callable[[Row], str]]] = [  # whether it is shown, header, cell
        (any(row.recipe for row in rows), "recipe", lambda row: row.recipe),
        (True, "method" if rows[0].methods else "recipe", lambda row: row.label),
        (any(row.model for row in rows), "model", lambda row: row.model),
        (any(row.setting for row in rows), "setting", lambda row: row.setting),
        (any(row.search for row in rows), "search: trainings, seconds", search_cost),
        (any(row.folds for row in rows), "folds", lambda row: str(len(row.folds))),
        (True, "seeds", lambda row: str(len(set(row.seeds)) if row.folds else len(row.runs))),
        *[(True, name, partial(mean_cell, metric=name)) for name in metrics],
        (True, f"training time ({reference} = 1)", partial(time, "train_seconds")),
        (has_epoch_times(rows), f"epoch time ({reference} = 1)", partial(time, "epoch_seconds")),
        (
            any(row.values("estimation_seconds").any() for row in rows),
            "estimation, seconds",
            partial(mean_cell, metric="estimation_seconds"),
        ),
        (True, f"{metric}: difference to {reference} {INTERVAL}", against_baseline),
        (control is not None, f"{metric}: difference to {usual} {INTERVAL}", against_control),
    ]
    shown = [(name, cell) for is_shown, name, cell in table if is_shown]
    return [name for name, _ in shown], [[cell(row) for _, cell in shown] for row in rows]


def has_epoch_times(rows: Sequence[Row]) -> bool:
    """Whether the time of a typical epoch is known of any run."""
    return any(len(row.values("epoch_seconds")) for row in rows)


def search_cost(row: Row) -> str:
    """How many trainings a row's search took, and how many seconds."""
    seconds = sum(run.get("train_seconds", math.nan) + run.get("estimation_seconds", 0.0) for run in row.search)
    trainings = sum(run.get("trainings", 1) for run in row.search)
    return f"{trainings}, {'-' if math.isnan(seconds) else format(seconds, '.0f')}" if row.search else ""


def number(value: float) -> str:
    """Two digits after the point; a dash for NaN."""
    return "-" if math.isnan(value) else f"{value:.2f}"
