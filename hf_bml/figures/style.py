"""How all figures look: colours by modality and by run, axes, and how a figure becomes a PNG.

Colours are Okabe and Ito's, which people with the common colour vision deficiencies can tell apart; lines of runs also
differ in style, so that a black and white print can be read.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure  # not pyplot, whose backend belongs to the program that trains
from matplotlib.ticker import MaxNLocator

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MODALITY_COLOURS = dict(zip(("audio", "visual", "text", "flow", "difference"), COLOURS, strict=False))
JOINT = "joint"  # the prediction from all modalities
JOINT_COLOUR = "#7F7F7F"
RUN_COLOURS = ("#000000", "#E69F00", "#0072B2", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
RUN_STYLES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DENSITY_MAP = "cividis"
PANEL = (3.5, 2.9)  # inches; three in a row are readable on a page of 800 pixels
DOTS_PER_INCH = 120
LEGEND_COLUMNS = 4
MOST_PANEL_COLUMNS = 3


def modality_colours(modalities: Iterable[str]) -> dict[str, str]:
    """A colour per modality: a well-known name has its own in every figure, others take what is left, in order.

    Example:
        >>> modality_colours(["visual", "lidar", "audio"])
        {'visual': '#D55E00', 'lidar': '#009E73', 'audio': '#0072B2'}
    """
    names = list(dict.fromkeys(modalities))
    taken = {MODALITY_COLOURS[name] for name in names if name in MODALITY_COLOURS}
    free = [colour for colour in COLOURS if colour not in taken] or list(COLOURS)
    others = [name for name in names if name not in MODALITY_COLOURS and name != JOINT]
    own = {name: free[index % len(free)] for index, name in enumerate(others)}
    return {name: JOINT_COLOUR if name == JOINT else MODALITY_COLOURS.get(name) or own[name] for name in names}


Styles = Mapping[str, Mapping[str, Any]]  # line options per run


def run_styles(labels: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Line options per run, by its place: 7 colours and 4 line styles, so the first 28 differ.

    Figures of the same runs, or of some of them, share the result, so that a run looks the same in each.
    """
    styles = {}
    for index, label in enumerate(dict.fromkeys(labels)):
        colour = RUN_COLOURS[index % len(RUN_COLOURS)]
        style = RUN_STYLES[index % len(RUN_STYLES)]
        styles[label] = {"color": colour, "linestyle": style, "marker": MARKERS[index % len(MARKERS)], "markersize": 4}
    return styles


def panel_title(name: str) -> str:
    """What a prediction is called."""
    return "all modalities" if name == JOINT else name


@contextmanager
def picture(
    path: str | Path,
    count: int = 1,
    title: str = "",
    grid: str | None = "both",
    legend: bool = True,
    legend_columns: int = LEGEND_COLUMNS,
    marker_scale: float = 1,
    **options: Any,
) -> Iterator[tuple[Figure, list[Axes]]]:
    """What all pictures share: a figure of equal panels, which becomes a PNG at the end of the `with`.

    Args:
        path: the PNG.
        count: of panels.
        title: above them.
        grid: as for `finish_axis`; None leaves the axes as they are.
        legend: whether the panels share one, below them.
        legend_columns, marker_scale: of the legend.
        options: of `panels`.
    """
    figure, axes = panels(count, **options)
    yield figure, axes
    if grid is not None:
        for axis in axes:
            finish_axis(axis, grid)
    if legend:
        legend_below(figure, axes, legend_columns, marker_scale)
    save(figure, path, title)


def panels(count: int, columns: int = MOST_PANEL_COLUMNS, **options: Any) -> tuple[Figure, list[Axes]]:
    """A figure with `count` equally large axes in rows.

    Args:
        count: at least 1.
        columns: at most so many in a row.
        options: as for `Figure.subplots`; `panel` is the size of one in inches.
    """
    width, height = options.pop("panel", PANEL)
    rows = math.ceil(count / columns)
    columns = math.ceil(count / rows)  # four of at most three in a row are two rows of two
    size = (max(width * columns, 5.0), height * rows)
    figure = Figure(figsize=size, layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False, **options).flat)
    for index, axis in enumerate(axes[count:], start=count):
        axis.remove()
        axes[index - columns].tick_params(labelbottom=True)  # which a shared scale leaves to the lowest row
    return figure, axes[:count]


def finish_axis(axis: Axes, grid: str = "both") -> None:
    """A light grid behind the data, no box around it."""
    axis.grid(axis=grid, alpha=0.25)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def error_bars(spreads: Sequence[float] | None) -> np.ndarray | None:
    """Standard deviations as error bars, none where there is a single value; None without any."""
    spreads = np.asarray([] if spreads is None else spreads, dtype=float)
    return None if np.isnan(spreads).all() else np.nan_to_num(spreads)


def epoch_axis(axis: Axes) -> None:
    """The x-axis of a training, whose ticks are whole epochs unless it is shorter than one; for one with data."""
    low, high = axis.dataLim.intervalx
    axis.set_xlabel("epoch")
    if low == high:  # ticks beside the only place would be fractions of an epoch where nothing is
        axis.set_xticks([low], [f"{low:g}"])
    else:
        axis.xaxis.set_major_locator(MaxNLocator(integer=high > 1, nbins=7, min_n_ticks=1))


def percent_axis(axis: Axes, label: str, which: str = "y", limits: tuple[float | None, float | None] = (0, 1)) -> None:
    """An axis of shares in [0, 1] that is labelled in per cent."""
    axis.set(**{f"{which}label": label})
    {"x": axis.xaxis, "y": axis.yaxis}[which].set_major_formatter(lambda share, _: percent_text(share))
    if limits != (None, None):
        axis.set(**{f"{which}lim": limits})


def percent_text(share: float) -> str:
    """What a tick says, with as many digits as the share has.

    Example:
        >>> percent_text(0.25), percent_text(0.125)
        ('25%', '12.5%')
    """
    return f"{100 * share:g}%"


def legend_below(figure: Figure, axes: Sequence[Axes], columns: int = LEGEND_COLUMNS, marker_scale: float = 1) -> None:
    """One legend for all panels, below them; every label once."""
    found = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if not found:
        return
    longest = max(map(len, found))
    width = figure.get_size_inches()[0]
    fitting = max(1, int(width / (0.09 * min(longest, 40) + 0.6)))
    labels = [textwrap.fill(label, 40, break_on_hyphens=False) for label in found]
    figure.legend(
        list(found.values()),
        labels,
        loc="outside lower center",
        ncols=min(columns, fitting, len(found)),
        fontsize=9,
        frameon=False,
        markerscale=marker_scale,
    )


def save(figure: Figure, path: str | Path, title: str = "") -> None:
    """Writes the PNG."""
    if title:
        figure.suptitle(title)
    figure.savefig(path, dpi=DOTS_PER_INCH)
