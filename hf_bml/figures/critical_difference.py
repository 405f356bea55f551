"""A critical-difference diagram (Demšar, JMLR 2006): mean ranks on one axis, and bars over what is not told apart."""

from __future__ import annotations

import math
from pathlib import Path

from matplotlib.axes import Axes

from ..analysis.ranks import Ranks, not_told_apart
from .dots import wrapped
from .style import COLOURS, picture

WIDTH = 9.0  # inches, with the labels
MARGIN = 0.55  # of the scale's length, for the labels on either side
LINE = 0.3  # inches, which the vertical coordinates count
LABEL_WIDTH = 26  # characters
MOST_TICKS = 20
BAR = {"color": "black", "linewidth": 3.5, "solid_capstyle": "butt"}
LEADER = {"color": "grey", "linewidth": 0.9, "zorder": 1}


def plot_critical_difference(ranks: Ranks, path: str | Path, title: str = "") -> bool:
    """Draws the methods at their mean ranks, the best on the left and the control bold, into a PNG.

    Returns:
        whether there is a critical difference; if not, there is no PNG.
    """
    if ranks.critical_difference is None:
        return False
    groups = not_told_apart(ranks.mean_ranks, ranks.critical_difference)
    count = len(ranks.mean_ranks)
    length, half = count - 1, math.ceil(count / 2)
    top, bottom = 1.8, -0.7 * len(groups) - half - 0.6
    shape = (WIDTH, LINE * (top - bottom) + 0.4)
    with picture(path, 1, title, grid=None, legend=False, panel=shape) as (_, [axis]):
        axis.set(xlim=(1 - MARGIN * length, count + MARGIN * length), ylim=(bottom, top))
        axis.set_axis_off()
        draw_scale(axis, count, ranks.critical_difference)
        for line, group in enumerate(groups, start=1):
            ends = (ranks.mean_ranks[group[0]] - 0.01 * length, ranks.mean_ranks[group[-1]] + 0.01 * length)
            axis.plot(ends, [-0.7 * line] * 2, **BAR)
        for place, (name, rank) in enumerate(ranks.mean_ranks.items()):
            is_left = place < half
            height = -0.7 * len(groups) - 1 - (place if is_left else count - 1 - place)
            outwards, side = (-length, "right") if is_left else (length, "left")
            edge = (1 if is_left else count) + 0.02 * outwards
            axis.plot([rank, rank, edge], [0, height, height], **LEADER)
            look = {"ha": side, "va": "center", "fontsize": 9, "weight": "bold" if name == ranks.control else "normal"}
            axis.text(edge + 0.01 * outwards, height, f"{rank:.2f}", **look)
            axis.text(edge + 0.13 * outwards, height, wrapped(name, width=LABEL_WIDTH), **look)
    return True


def draw_scale(axis: Axes, count: int, difference: float) -> None:
    """The axis of ranks, from 1 to the number of methods, and the critical difference above it."""
    axis.plot([1, count], [0, 0], color="black", linewidth=1.1)
    for rank in range(1, count + 1, math.ceil(count / MOST_TICKS)):
        axis.plot([rank, rank], [0, 0.15], color="black", linewidth=1.1)
        axis.text(rank, 0.2, str(rank), ha="center", va="bottom", fontsize=9)
    axis.plot([1, 1 + difference], [1.1, 1.1], marker="|", color=COLOURS[0], linewidth=1.6)
    text = f"critical difference {difference:.2f}"
    axis.text(1 + difference / 2, 1.2, text, ha="center", va="bottom", fontsize=9, color=COLOURS[0])
