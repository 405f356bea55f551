"""A comparison as a picture: joint and unimodal accuracy of every row, with error bars."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .comparison import Row, reference_row
from .curves import COLOURS, plt

JOINT_COLOUR = "#9A9A9A"
LABEL_WIDTH = 30  # characters
LINE_HEIGHT = 0.165  # inches, of a label's line


def accuracy_metrics(rows: Sequence[Row]) -> list[str]:
    """`accuracy`, then `accuracy_<modality>` in the order in which they first appear."""
    names = dict.fromkeys(name for row in rows for run in row.runs for name in run if name.startswith("accuracy"))
    return list(names)


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
    labels = [wrapped(row) for row in rows]
    row_height = max(0.1 + 0.14 * len(metrics), LINE_HEIGHT * max(label.count("\n") + 1 for label in labels))
    figure, axis = plt.subplots(figsize=(7.5, 1.4 + len(rows) * row_height), layout="constrained")
    colours = itertools.chain([JOINT_COLOUR], itertools.cycle(COLOURS))
    for index, (metric, colour) in enumerate(zip(metrics, colours, strict=False)):
        spreads = np.asarray([row.spread(metric) for row in rows])
        axis.barh(
            places + (index - (len(metrics) - 1) / 2) * width,
            [100 * row.mean(metric) for row in rows],
            height=0.92 * width,
            xerr=100 * np.nan_to_num(spreads) if not np.isnan(spreads).all() else None,
            color=colour,
            error_kw={"ecolor": "black", "elinewidth": 1, "capsize": 2},
            label=metric.removeprefix("accuracy_") if metric != "accuracy" else "all modalities",
        )
    reference = reference_row(rows[0], rows)
    line = {"color": "black", "linestyle": "--", "linewidth": 0.9, "label": f"{reference.title}, all modalities"}
    axis.axvline(100 * reference.mean("accuracy"), **line)
    axis.set_yticks(places, labels, fontsize=9)
    axis.set(xlabel="test accuracy (%)", xlim=(0, 100), ylim=(len(rows) - 0.4, -0.6))
    axis.tick_params(axis="x", labelsize=9, labeltop=len(rows) > 8, top=len(rows) > 8)
    axis.grid(axis="x", alpha=0.3)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_title(title)
    figure.legend(loc="outside lower center", ncols=4, fontsize=9, frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def wrapped(row: Row) -> str:
    """The row's title in lines of limited width, and what its model has other than the recipe's."""
    text = row.title.replace("+", " + ").replace(",", ", ")
    lines = textwrap.wrap(text, LABEL_WIDTH, break_on_hyphens=False)
    return "\n".join([*lines, *([f"({row.model})"] if row.model else [])])
