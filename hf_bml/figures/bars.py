"""A comparison as pictures: joint and unimodal accuracy of every row with error bars, and training times."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from ..analysis.comparison import Row, reference_row, relative_time
from ..metrics.question_answering import TYPE_PREFIX
from .style import JOINT_COLOUR, finish_axis, legend_below, modality_colours, panels, save

LABEL_WIDTH = 30  # characters
LINE_HEIGHT = 0.165  # inches, of a label's line


def accuracy_metrics(rows: Sequence[Row]) -> list[str]:
    """`accuracy`, then `accuracy_<modality>` in the order in which they first appear; no types of questions."""
    names = dict.fromkeys(name for row in rows for run in row.runs for name in run if name.startswith("accuracy"))
    return [name for name in names if not name.startswith(TYPE_PREFIX)]


def plot_bars(rows: Sequence[Row], path: str | Path, title: str = "") -> None:
    """Draws horizontal bars into a PNG, a group per row: mean accuracies in per cent, standard deviation as error bar.

    A dashed line marks the joint accuracy of the first row's reference.

    Args:
        rows: as in `comparison_table`.
        path: the PNG.
        title: above the bars.
    """
    metrics = accuracy_metrics(rows)
    width = 0.82 / len(metrics)
    places = np.arange(len(rows), dtype=float)
    row_height = max(0.1 + 0.14 * len(metrics), label_height(rows))
    figure, [axis] = panels(1, panel=(7.5, 1.4 + len(rows) * row_height))
    colours = modality_colours(metric.removeprefix("accuracy_") for metric in metrics if metric != "accuracy")
    for index, metric in enumerate(metrics):
        modality = metric.removeprefix("accuracy_") if metric != "accuracy" else None
        spreads = np.asarray([row.spread(metric) for row in rows])
        axis.barh(
            places + (index - (len(metrics) - 1) / 2) * width,
            [100 * row.mean(metric) for row in rows],
            height=0.92 * width,
            xerr=100 * np.nan_to_num(spreads) if not np.isnan(spreads).all() else None,
            color=colours.get(modality, JOINT_COLOUR),
            error_kw={"ecolor": "black", "elinewidth": 1, "capsize": 2},
            label=modality or "all modalities",
        )
    reference = reference_row(rows[0], rows)
    line = {"color": "black", "linestyle": "--", "linewidth": 0.9, "label": f"{reference.title}, all modalities"}
    axis.axvline(100 * reference.mean("accuracy"), **line)
    axis.set(xlabel="test accuracy (%)", xlim=(0, 100))
    axis.tick_params(axis="x", labelsize=9, labeltop=len(rows) > 8, top=len(rows) > 8)
    name_rows(axis, rows)
    legend_below(figure, [axis])
    save(figure, path, title)


def plot_times(rows: Sequence[Row], path: str | Path) -> None:
    """Draws the mean time of every row relative to the reference (paper Table 4).

    The time of a typical epoch where all rows have it, else of the whole training; estimation is left out of both.
    """
    name = shown_time(rows)
    times = [relative_time(row, rows, name) for row in rows]
    reference = reference_row(rows[0], rows)
    figure, [axis] = panels(1, panel=(7.5, 1.1 + len(rows) * max(0.26, label_height(rows))))
    bars = axis.barh(np.arange(len(rows)), np.nan_to_num(times), height=0.6, color=JOINT_COLOUR)
    labels = ["not measured" if np.isnan(time) else f"{time:.2f}" for time in times]
    axis.bar_label(bars, labels, padding=3, fontsize=9)
    axis.axvline(1, color="black", linestyle="--", linewidth=0.9)
    what = "time of an epoch" if name == "epoch_seconds" else "training time"
    axis.set(xlabel=f"{what} ({reference.title} = 1)", xlim=(0, 1.15 * max([1, *np.nan_to_num(times)])))
    name_rows(axis, rows)
    save(figure, path)


def shown_time(rows: Sequence[Row]) -> str:
    """`epoch_seconds` if all rows have it, else `train_seconds`."""
    return "epoch_seconds" if all(len(row.values("epoch_seconds")) for row in rows) else "train_seconds"


def name_rows(axis: Axes, rows: Sequence[Row]) -> None:
    """The rows' titles from top to bottom."""
    axis.set_yticks(np.arange(len(rows)), [wrapped(row) for row in rows], fontsize=9)
    axis.set_ylim(len(rows) - 0.4, -0.6)
    finish_axis(axis, grid="x")


def label_height(rows: Sequence[Row]) -> float:
    """Inches that the longest title needs."""
    return LINE_HEIGHT * max(wrapped(row).count("\n") + 1 for row in rows)


def wrapped(row: Row) -> str:
    """The row's title in lines of limited width, and what its model has other than the recipe's."""
    text = row.title.replace("+", " + ").replace(",", ", ")
    lines = textwrap.wrap(text, LABEL_WIDTH, break_on_hyphens=False)
    return "\n".join([*lines, *([f"({row.model})"] if row.model else [])])
