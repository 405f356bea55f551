"""A critical-difference diagram (Demšar, JMLR 2006): mean ranks on one axis, and bars over what is not told apart."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes

from ..analysis.ranks import Ranks, not_told_apart
from .style import COLOURS, picture

WIDTH = 9.0  # inches
LINE = 0.3  # inches between two labels, or two bars
BAR = {"color": "black", "linewidth": 3.5, "solid_capstyle": "butt"}
LEADER = {"color": "grey", "linewidth": 0.9}


def plot_critical_difference(ranks: Ranks, path: str | Path, title: str = "") -> bool:
    """Draws the methods at their mean ranks, the best on the left, into a PNG.

    Returns:
        whether there is a critical difference; if not, there is no PNG.
    """
    if ranks.critical_difference is None:
        return False
    groups = not_told_apart(ranks.mean_ranks, ranks.critical_difference)
    count = len(ranks.mean_ranks)
    half = (count + 1) // 2
    top, depth = 1.6, len(groups) + half + 0.8
    height = LINE * (top + depth) + 0.5
    with picture(path, 1, title, grid=None, legend=False, panel=(WIDTH, height)) as (_, [axis]):
        axis.set(xlim=(1 - 0.55 * (count - 1), count + 0.55 * (count - 1)), ylim=(-depth, top))
        axis.set_axis_off()
        draw_scale(axis, count)
        axis.plot([1, 1 + ranks.critical_difference], [1.1, 1.1], marker="|", color=COLOURS[0], linewidth=1.6)
        text = f"critical difference {ranks.critical_difference:.2f}"
        axis.text(1 + ranks.critical_difference / 2, 1.2, text, ha="center", va="bottom", fontsize=9, color=COLOURS[0])
        for line, group in enumerate(groups, start=1):
            axis.plot(
                [ranks.mean_ranks[group[0]] - 0.03, ranks.mean_ranks[group[-1]] + 0.03], [-0.7 * line] * 2, **BAR
            )
        for place, (name, rank) in enumerate(ranks.mean_ranks.items()):
            is_left = place < half
            line = -0.7 * len(groups) - 1 - (place if is_left else count - 1 - place)
            edge = 0.9 if is_left else count + 0.1
            axis.plot([rank, rank, edge], [0, line, line], **LEADER, zorder=1)
            label = f"{name}  {rank:.2f}" if is_left else f"{rank:.2f}  {name}"
            side = "right" if is_left else "left"
            shift = -0.05 if is_left else 0.05
            weight = "bold" if name == ranks.control else "normal"
            axis.text(edge + shift, line, label, ha=side, va="center", fontsize=9, weight=weight)
    return True


def draw_scale(axis: Axes, count: int) -> None:
    """The axis of ranks, from 1 to the number of methods."""
    axis.plot([1, count], [0, 0], color="black", linewidth=1.1)
    for rank in range(1, count + 1):
        axis.plot([rank, rank], [0, 0.15], color="black", linewidth=1.1)
        axis.text(rank, 0.25, str(rank), ha="center", va="bottom", fontsize=9)
