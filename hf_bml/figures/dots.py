"""Dot plots: a dot per row, the mean of its runs, with a 95 % interval, on an axis zoomed to the rows' differences.

A dot is read by its place, so its axis needs no 0, as that of bars would. Student's interval is drawn from three runs
on; of two runs both values are marked.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ..analysis.references import reference_row
from ..analysis.row import Row
from ..analysis.summary import paired_difference
from ..metrics.question_answering import TYPE_PREFIX
from .style import JOINT, JOINT_COLOUR, Styles, modality_colours, panel_title, percent_axis, picture

LABEL_WIDTH = 30  # characters
LINE_HEIGHT = 0.165  # inches, of a label's line
WIDTH = 9.0  # inches, of all panels side by side
MOST_COLUMNS = 4
INTERVALS_FROM = 3  # runs; Student's interval of two rests on one degree of freedom
LEAST_SPAN = 0.02  # of an axis of shares: smaller differences than 2 points are not blown up to its whole length
DASHED = {"color": "black", "linestyle": "--", "linewidth": 0.9}


def dot_plot(
    rows: pd.DataFrame | Iterable[Mapping[str, Any]],
    path: str | Path,
    title: str = "",
    *,
    label: str,
    percent: bool = True,
    styles: Styles | None = None,
    reference: Collection[str] = (),
    line: float | None = None,
    order: str | None = "descending",
    shared: bool = False,
) -> None:
    """Draws a panel per `panel` into a PNG, and in it a line of dots per `row`.

    Args:
        rows: a record per run, at least one: `row` (named at the axis; line breaks count), `panel`, `value` (NaN: not
            measured); optionally `series`, where a row has several dots in a panel, and `group`: rows are sorted
            within groups.
        label: of the values.
        percent: whether these are shares, shown in per cent.
        styles: line options, of which colour and marker count, by series, or by panel without series.
        reference: rows whose mean a dashed line marks throughout their group.
        line: a value that a grey line marks, such as 0.
        order: `descending` or `ascending` in the first panel's means, or None for the order of the records.
        shared: whether the panels have one scale; else each shows its own differences.
    """
    table = pd.DataFrame(rows)
    has_series = "series" in table
    table = table.assign(series=table["series"] if has_series else table["panel"], group=table.get("group", ""))
    panels, series = (list(dict.fromkeys(table[name])) for name in ("panel", "series"))
    names = sorted_rows(table, panels[0], order)
    places = {name: float(place) for place, name in enumerate(names)}
    count = len(series) if has_series else 1
    height = 0.9 + len(names) * max(0.14 + 0.14 * count, 0.12 + label_height(names))
    columns = math.ceil(len(panels) / math.ceil(len(panels) / MOST_COLUMNS))
    shape = {"columns": columns, "panel": (WIDTH / columns, height), "sharey": True, "sharex": shared}
    with picture(path, len(panels), title, **shape) as (_, axes):
        for axis, panel in zip(axes, panels, strict=True):
            own = table[table["panel"] == panel]
            for index, name in enumerate(series):
                look = {"color": JOINT_COLOUR, "marker": "o", **(styles or {}).get(name, {}), "markersize": 5}
                shift = (index - (count - 1) / 2) * 0.7 / count if has_series else 0.0
                drawn = own[own["series"] == name]
                if len(drawn):
                    drawn = drawn.assign(place=drawn["row"].map(places) + shift)
                    draw_dots(axis, drawn, {**look, "linestyle": "none"}, name if has_series else None)
            for group, members in own.groupby("group", sort=False):
                at = [places[row] for row in table["row"][table["group"] == group]]
                for row in dict.fromkeys(members["row"][members["row"].isin(reference)]):
                    text = f"{row.replace(chr(10), ' ')} (reference)" if len(reference) == 1 else "reference"
                    mean = members["value"][members["row"] == row].mean()
                    axis.plot([mean] * 2, [min(at) - 0.45, max(at) + 0.45], label=text, zorder=1, **DASHED)
            if line is not None:
                axis.axvline(line, color="grey", linewidth=0.9, zorder=1)
            if len(panels) > 1:
                axis.set_title(panel, fontsize=11)
            axis.xaxis.set_major_locator(MaxNLocator(nbins=max(3, 8 // columns)))
            axis.set_yticks(range(len(names)), names, fontsize=9)
        axes[0].set_ylim(len(names) - 0.5, -0.5)
        for axis in axes[-columns:]:
            axis.set_xlabel(label)
        if percent:
            for axis in axes:  # after all are drawn, as they may share the scale
                percent_axis(axis, axis.get_xlabel(), which="x", limits=share_limits(*axis.get_xlim()))


def draw_dots(axis: Axes, drawn: pd.DataFrame, look: Mapping[str, Any], label: str | None) -> None:
    """The means of one series at their `place`, and what is known of their noise."""
    means = drawn.groupby("place")["value"].mean()
    axis.plot(means.to_numpy(), means.index.to_numpy(), label=label, zorder=3, **look)
    for place, values in drawn.dropna(subset="value").groupby("place")["value"]:
        found = paired_difference(values.to_numpy(), np.zeros(len(values)))
        if len(values) >= INTERVALS_FROM and not np.isnan(found.low):
            axis.plot([found.low, found.high], [place] * 2, color=look["color"], linewidth=1.4, zorder=2)
        elif len(values) > 1:
            axis.plot(values.to_numpy(), [place] * len(values), **{**look, "marker": "|", "markersize": 7}, alpha=0.6)


def share_limits(low: float, high: float) -> tuple[float, float]:
    """Limits of an axis of shares that holds these: at least 2 points apart, and hardly beyond 0 and 1.

    Example:
        >>> share_limits(0.5, 0.75), share_limits(-0.25, 1.25)
        ((0.5, 0.75), (-0.02, 1.02))
    """
    wider = max(0.0, LEAST_SPAN - (high - low)) / 2
    return max(low - wider, -0.02), min(high + wider, 1.02)


def sorted_rows(table: pd.DataFrame, panel: str, order: str | None) -> list[str]:
    """The names of the rows from top to bottom; those without a value in the panel last in their group."""
    if order is None:
        return list(dict.fromkeys(table["row"]))
    means = table[table["panel"] == panel].groupby("row")["value"].mean()
    names = []
    for _, own in table.groupby("group", sort=False):
        members = list(dict.fromkeys(own["row"]))
        names += list(means.reindex(members).sort_values(ascending=order == "ascending", kind="stable").index)
    return names


def label_height(labels: Sequence[str]) -> float:
    """Inches that the longest label needs."""
    return LINE_HEIGHT * max(label.count("\n") + 1 for label in labels)


def wrapped(text: str, model: str = "", width: int = LABEL_WIDTH) -> str:
    """A row's title in lines of limited width, and what its model has other than the recipe's."""
    texts = [text.replace("+", " + ").replace(",", ", "), *([f"({model})"] if model else [])]
    return "\n".join(line for each in texts for line in textwrap.wrap(each, width, break_on_hyphens=False))


def accuracy_metrics(rows: Sequence[Row]) -> list[str]:
    """`accuracy`, then `accuracy_<modality>` in the order in which they first appear; no types of questions."""
    names = dict.fromkeys(name for row in rows for run in row.runs for name in run if name.startswith("accuracy"))
    return [name for name in names if not name.startswith(TYPE_PREFIX)]


def plot_accuracies(rows: Sequence[Row], path: str | Path, title: str = "") -> bool:
    """Draws test accuracies, a panel for all modalities and for each alone, rows sorted by the former, into a PNG.

    A dashed line marks the accuracy of what the rows of a recipe are compared to.

    Args:
        rows: as in `comparison_table`.

    Returns:
        whether any row has an accuracy; if not, there is no PNG.
    """
    metrics = {metric: metric.removeprefix("accuracy_") for metric in accuracy_metrics(rows)}
    metrics = {metric: JOINT if metric == "accuracy" else modality for metric, modality in metrics.items()}
    records = [
        {"row": wrapped(row.title, row.model), "group": row.recipe, "panel": panel_title(name), "value": value}
        for metric, name in metrics.items()
        for row in rows
        for value in row.values(metric)
    ]
    if not records:
        return False
    colours = {panel_title(name): {"color": colour} for name, colour in modality_colours(metrics.values()).items()}
    marked = {wrapped(one.title, one.model) for one in (reference_row(row, rows) for row in rows)}
    dot_plot(records, path, title, label="test accuracy", styles=colours, reference=marked if len(rows) > 1 else ())
    return True


def plot_times(rows: Sequence[Row], path: str | Path) -> None:
    """Draws the time of every run relative to the mean of the reference (paper Table 4), the fastest row first.

    The time of a typical epoch where all rows have it, else of the whole training; estimation is left out of both.
    """
    of_epochs = all(len(row.values("epoch_seconds")) for row in rows)
    name, reference = "epoch_seconds" if of_epochs else "train_seconds", reference_row(rows[0], rows)
    records = []
    for row in rows:
        times = row.values(name) / reference.mean(name)
        text = wrapped(row.title, row.model) + ("" if len(times) else "\n(not measured)")
        records += [{"row": text, "panel": "", "value": time} for time in (times if len(times) else [np.nan])]
    what = f"{'time of an epoch' if of_epochs else 'training time'} ({reference.title} = 1)"
    dot_plot(records, path, label=what, percent=False, line=1, order="ascending")


Shapley = Mapping[str, Any]  # {"values": {modality: v}, "coalitions": {"": v, "audio": v, "audio+visual": v}}


def plot_shapley(contributions: Mapping[str, Sequence[Shapley]], path: str | Path) -> None:
    """Draws every run's Shapley values, a panel per modality, in the order of the runs, into a PNG.

    The values of a run add up to its accuracy with all modalities minus that with none.

    Args:
        contributions: every seed's Shapley values, in [-1, 1], per run.
    """
    records = [
        {"row": wrapped(run), "panel": modality, "value": 100 * value}
        for run, seeds in contributions.items()
        for seed in seeds
        for modality, value in seed["values"].items()
    ]
    colours = {name: {"color": colour} for name, colour in modality_colours(r["panel"] for r in records).items()}
    label = "Shapley value (points)"
    dot_plot(records, path, label=label, percent=False, styles=colours, line=0, order=None, shared=True)
