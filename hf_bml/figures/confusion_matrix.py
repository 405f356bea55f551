"""Which classes are taken for which: the confusion matrix as a picture, and its largest entries."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.ticker import FuncFormatter

from .style import picture

NUMBERS_UP_TO = 14  # classes whose cells carry numbers
NAMES_UP_TO = 45  # classes that are named at the axes
CONFUSION_MAP = "Blues"


def row_shares(confusion: Sequence[Sequence[int]]) -> np.ndarray:
    """Counts divided by their row's sum, `(classes, classes)`; a class without samples has zeros."""
    counts = np.asarray(confusion, dtype=float)
    return counts / np.maximum(counts.sum(1, keepdims=True), 1)


def most_confused(
    confusion: Sequence[Sequence[int]], classes: Sequence[str], most: int = 10
) -> list[tuple[str, str, int, float]]:
    """True class, predicted class, count and share of the true class of the largest entries off the diagonal.

    Example:
        >>> most_confused([[8, 2], [0, 5]], ["cat", "dog"])
        [('cat', 'dog', 2, 0.2)]
    """
    counts, shares = np.asarray(confusion), row_shares(confusion)
    off = [(t, p) for t, p in zip(*counts.nonzero(), strict=True) if t != p]
    off.sort(key=lambda pair: (-counts[pair], -shares[pair], pair))
    return [(str(classes[t]), str(classes[p]), int(counts[t, p]), float(shares[t, p])) for t, p in off[:most]]


def plot_confusion(
    confusion: Sequence[Sequence[int]], classes: Sequence[str], path: str | Path, title: str = ""
) -> None:
    """Draws the share of every true class that is predicted as each class into a PNG.

    Few classes have numbers in the cells, up to 45 their names at the axes, more their numbers in steps; the colours
    stretch small shares, so that single confusions among many classes are seen.

    Args:
        confusion: counts, rows are true classes.
        classes: names.
    """
    shares = row_shares(confusion)
    count = len(classes)
    side = min(9.0, max(4.6, 2.6 + 0.24 * count if count > NUMBERS_UP_TO else 2.6 + 0.46 * count))
    with picture(path, title=title, panel=(side + 0.9, side), grid=None) as (figure, [axis]):
        image = axis.imshow(shares, cmap=CONFUSION_MAP, norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
        percent = FuncFormatter(lambda value, _: f"{100 * value:.0f} %")
        ticks = [0, 0.01, 0.05, 0.1, 0.25, 0.5, 1] if count > NUMBERS_UP_TO else [0, 0.05, 0.1, 0.25, 0.5, 1]
        bar = figure.colorbar(image, ax=axis, shrink=0.8, format=percent, ticks=ticks)
        bar.set_label("share of the true class")
        if count <= NUMBERS_UP_TO:
            for (row, column), share in np.ndenumerate(shares):
                if share > 0:
                    options = {"ha": "center", "va": "center", "fontsize": 9}
                    axis.text(column, row, f"{100 * share:.0f}", color="white" if share > 0.4 else "black", **options)
        if count <= NAMES_UP_TO:
            names = [textwrap.shorten(str(name), 24, placeholder="…") for name in classes]
            size = 9 if count <= NUMBERS_UP_TO else 7
            rotation = 90 if count > NUMBERS_UP_TO or max(map(len, names)) > 3 else 0
            axis.set_xticks(range(count), names, rotation=rotation, fontsize=size)
            axis.set_yticks(range(count), names, fontsize=size)
        else:
            places = list(range(0, count, max(1, round(count / 12 / 5) * 5)))
            axis.set_xticks(places, map(str, places))
            axis.set_yticks(places, map(str, places))
        number = "" if count <= NAMES_UP_TO else " (number)"
        axis.set(xlabel=f"predicted class{number}", ylabel=f"true class{number}")
