"""A comparison as pictures: joint and unimodal accuracy of every row with error bars, and training times."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..analysis.comparison import Row, reference_row, relative_time
from ..metrics.question_answering import TYPE_PREFIX
from .style import JOINT, JOINT_COLOUR, bar_groups, modality_colours, panel_title, picture

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
    """
    metrics = {metric: metric.removeprefix("accuracy_") for metric in accuracy_metrics(rows)}
    metrics = {metric: JOINT if metric == "accuracy" else modality for metric, modality in metrics.items()}
    colours = modality_colours(metrics.values())
    labels = [wrapped(row) for row in rows]
    size = (7.5, 1.4 + len(rows) * max(0.1 + 0.14 * len(metrics), label_height(labels)))
    with picture(path, title=title, panel=size, grid="x") as (_, [axis]):
        bars = []
        for metric, name in metrics.items():
            means, spreads = [100 * row.mean(metric) for row in rows], [100 * row.spread(metric) for row in rows]
            bars.append((panel_title(name), means, spreads, colours[name]))
        bar_groups(axis, labels, bars)
        reference = reference_row(rows[0], rows)
        line = {"color": "black", "linestyle": "--", "linewidth": 0.9}
        axis.axvline(100 * reference.mean("accuracy"), label=f"{reference.title}, {panel_title(JOINT)}", **line)
        axis.set(xlabel="test accuracy (%)", xlim=(0, 100))
        axis.tick_params(axis="x", labelsize=9, labeltop=len(rows) > 8, top=len(rows) > 8)


def plot_times(rows: Sequence[Row], path: str | Path) -> None:
    """Draws the mean time of every row relative to the reference (paper Table 4).

    The time of a typical epoch where all rows have it, else of the whole training; estimation is left out of both.
    """
    of_epochs = all(len(row.values("epoch_seconds")) for row in rows)
    times = [relative_time(row, rows, "epoch_seconds" if of_epochs else "train_seconds") for row in rows]
    known, labels = np.nan_to_num(times), [wrapped(row) for row in rows]
    size = (7.5, 1.1 + len(rows) * max(0.26, label_height(labels)))
    with picture(path, panel=size, grid="x") as (_, [axis]):
        bar_groups(axis, labels, [("_", known, None, JOINT_COLOUR)], share=0.6 / 0.92)
        texts = ["not measured" if np.isnan(time) else f"{time:.2f}" for time in times]
        axis.bar_label(axis.containers[0], texts, padding=3, fontsize=9)
        axis.axvline(1, color="black", linestyle="--", linewidth=0.9)
        what = "time of an epoch" if of_epochs else "training time"
        axis.set(xlabel=f"{what} ({reference_row(rows[0], rows).title} = 1)", xlim=(0, 1.15 * max([1, *known])))


def label_height(labels: Sequence[str]) -> float:
    """Inches that the longest label needs."""
    return LINE_HEIGHT * max(label.count("\n") + 1 for label in labels)


def wrapped(row: Row) -> str:
    """The row's title in lines of limited width, and what its model has other than the recipe's."""
    text = row.title.replace("+", " + ").replace(",", ", ")
    lines = textwrap.wrap(text, LABEL_WIDTH, break_on_hyphens=False)
    return "\n".join([*lines, *([f"({row.model})"] if row.model else [])])
