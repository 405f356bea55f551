"""Sensitivity as a picture (paper Fig. 9): a line for one varied option, heat maps for two."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from ..analysis.comparison_table import mean_cell
from ..analysis.metric_names import scale_and_digits, validation_metric
from ..analysis.row import Row
from ..analysis.sensitivity import Sweep, short_names
from .style import COLOURS, DENSITY_MAP, error_bars, picture

LOGARITHMIC_FROM = 50  # ratio of the largest and the smallest value


def plot_sensitivity(sweep: Sweep, path: str | Path, metric: str, chosen: Row, title: str = "") -> None:
    """Draws validation and test results into a PNG; the chosen setting is marked in both.

    Args:
        sweep: of one or two options.
        metric: a test metric; the validation split's one stands beside it.
        chosen: the row with the best validation result.

    Raises:
        ValueError: another number of options.
    """
    if len(sweep.options) not in (1, 2):
        raise ValueError(f"a figure shows one or two options, found {len(sweep.options)}: {list(sweep.options)}.")
    keys = {"validation": validation_metric(sweep.rows, metric), "test": metric}
    draw = plot_line if len(sweep.options) == 1 else plot_heat_maps
    draw(sweep, path, keys, chosen, title)


def plot_line(sweep: Sweep, path: str | Path, keys: dict[str, str], chosen: Row, title: str) -> None:
    """Mean and standard deviation over one option's values."""
    [(option, values)] = sweep.options.items()
    places, is_scale = positions(values)
    order = np.argsort(places)
    with picture(path, title=title, panel=(5.6, 3.8), legend_columns=3) as (_, [axis]):
        for (split, key), colour, style, marker in zip(keys.items(), COLOURS, ("-", "--"), "os", strict=False):
            scale, _ = scale_and_digits(key)
            rows = [sweep.rows[index] for index in order]
            means, bars = (
                [scale * row.mean(key) for row in rows],
                error_bars([scale * row.spread(key) for row in rows]),
            )
            options = {"color": colour, "linestyle": style}
            label = axis_label(key, split)
            axis.errorbar(
                np.asarray(places)[order], means, yerr=bars, label=label, marker=marker, capsize=3, **options
            )
            index = next(index for index, row in enumerate(sweep.rows) if row is chosen)
            ring = {"s": 170, "facecolors": "none", "edgecolors": "black", "zorder": 3}
            label = "best on validation" if split == "test" else None
            axis.scatter([places[index]], [scale * chosen.mean(key)], label=label, **ring)
            if sweep.baseline is not None:
                options |= {"linewidth": 1, "alpha": 0.6}
                axis.axhline(scale * sweep.baseline.mean(key), **options)
                axis.plot([], [], label=f"{sweep.baseline.label}, {split}", **options)
        if is_scale and min(places) > 0 and max(places) / min(places) >= LOGARITHMIC_FROM:
            axis.set_xscale("log")
        axis.set_xticks(places, [text(value) for value in values])
        axis.minorticks_off()
        axis.set(xlabel=option, ylabel=axis_label(keys["test"]))


def plot_heat_maps(sweep: Sweep, path: str | Path, keys: dict[str, str], chosen: Row, title: str) -> None:
    """A map per split over two options' values, each cell with its mean and standard deviation."""
    (first, rows), (second, columns) = sweep.options.items()
    names = short_names([first, second])
    panel = (max(3.6, 1.15 * len(columns) + 1.4), max(2.6, 0.62 * len(rows) + 1.4))
    if sweep.baseline is not None:
        cells = ", ".join(f"{split} {mean_cell(sweep.baseline, key)}" for split, key in keys.items())
        title = f"{title}\n{sweep.baseline.label}: {cells}"
    with picture(path, 2, title, grid=None, panel=panel) as (figure, axes):
        for axis, (split, key) in zip(axes, keys.items(), strict=True):
            grid = [[sweep.row(**{first: one, second: other}) for other in columns] for one in rows]
            means = scale_and_digits(key)[0] * np.asarray([[row.mean(key) for row in line] for line in grid])
            image = axis.imshow(means, cmap=DENSITY_MAP, aspect="auto")
            figure.colorbar(image, ax=axis, label=axis_label(key))
            for (y, x), mean in np.ndenumerate(means):
                cell = mean_cell(grid[y][x], key).replace(" ± ", "\n± ")
                axis.text(x, y, cell, ha="center", va="center", fontsize=9, color=ink(image, mean))
                if grid[y][x] is chosen:
                    mark_cell(axis, x, y)
            axis.set_xticks(range(len(columns)), [text(value) for value in columns])
            axis.set_yticks(range(len(rows)), [text(value) for value in rows])
            axis.set(xlabel=names[second], ylabel=names[first], title=split)
        frame = {"color": "black", "linestyle": "none", "marker": "s", "markerfacecolor": "none"}
        axes[0].plot([], [], label="best on validation", **frame)


def mark_cell(axis: Axes, x: int, y: int) -> None:
    """A frame around a cell that is seen on dark and light colours."""
    for colour, width in (("white", 4.5), ("black", 2)):
        axis.add_patch(Rectangle((x - 0.46, y - 0.46), 0.92, 0.92, fill=False, edgecolor=colour, linewidth=width))


def ink(image: Any, value: float) -> str:
    """Black or white, whichever is read better on the image's colour of a value."""
    red, green, blue, _ = image.cmap(image.norm(value))
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"


def positions(values: Sequence[Any]) -> tuple[list[float], bool]:
    """The positions of values on the axis, and whether it is a scale: their own numbers, else 0, 1, 2, ..."""
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        return [float(value) for value in values], True
    return [float(index) for index in range(len(values))], False


def text(value: Any) -> str:
    """A value on an axis."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def axis_label(key: str, split: str | None = None) -> str:
    """`accuracy (%)`, with the split's name in front if given."""
    name = key.removeprefix("validation_").replace("_", " ")
    unit = " (%)" if scale_and_digits(key)[0] == 100 else ""
    return f"{split} {name}{unit}" if split else f"{name}{unit}"
