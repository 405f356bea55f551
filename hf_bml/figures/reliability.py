"""Whether a prediction is right as often as it claims: reliability diagrams of the joint and unimodal predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from .style import Styles, panel_title, percent_axis, picture, run_styles

FEWEST = 10  # samples of a bin whose accuracy is drawn: of fewer, chance alone moves it by 16 points and more
Calibration = Mapping[str, Any]  # {"ece": ..., "bins": [{"lower", "confidence", "accuracy", "count"}]}


def merged_bins(seeds: Sequence[Calibration]) -> pd.DataFrame:
    """The bins of several seeds as one: `confidence` and `accuracy`, weighted by the counts, and `count`, by `lower`.

    Example:
        >>> first = {"lower": 0.5, "confidence": 0.9, "accuracy": 1.0, "count": 3}
        >>> second = {"lower": 0.5, "confidence": 0.7, "accuracy": 0.0, "count": 1}
        >>> merged_bins([{"bins": [first]}, {"bins": [second]}]).loc[0.5].tolist()
        [0.85, 0.75, 4.0]
    """
    columns = ["lower", "confidence", "accuracy", "count"]
    bins = pd.DataFrame([found for seed in seeds for found in seed["bins"]], columns=columns, dtype=float)
    bins[["confidence", "accuracy"]] = bins[["confidence", "accuracy"]].mul(bins["count"], axis=0)
    merged = bins[bins["count"] > 0].groupby("lower").sum()
    merged[["confidence", "accuracy"]] = merged[["confidence", "accuracy"]].div(merged["count"], axis=0).round(12)
    return merged


def runs_of_bins(bins: pd.DataFrame, width: float) -> list[pd.DataFrame]:
    """The bins with enough samples, in pieces without a gap: what a line may join."""
    kept = bins[bins["count"] >= FEWEST]
    gaps = (np.diff(kept.index.to_numpy(), prepend=np.nan) > 1.5 * width).cumsum()
    return [piece for _, piece in kept.groupby(gaps)]


def plot_reliability(
    calibrations: Mapping[str, Mapping[str, Sequence[Calibration]]], path: str | Path, styles: Styles | None = None
) -> None:
    """Draws accuracy over confidence and below it the share of samples per confidence, of each prediction, into a PNG.

    Accuracy is drawn for bins of at least ten samples, and joined between neighbours only.

    Args:
        calibrations: per prediction (`joint` and modalities) and run, every seed's calibration.
    """
    names = list(calibrations)
    columns = min(len(names), 4)
    styles = styles or run_styles(dict.fromkeys(label for runs in calibrations.values() for label in runs))
    lowers = {
        b["lower"] for runs in calibrations.values() for seeds in runs.values() for s in seeds for b in s["bins"]
    }
    width = min(np.diff(sorted({*lowers, 1.0})), default=1.0)  # of a bin
    rows = -(-len(names) // columns)
    shape = {"columns": columns, "panel": (10.5 / max(columns, 3), 1.9), "height_ratios": [2.6, 1] * rows}
    count = 2 * columns * rows
    with picture(path, count, **shape, sharex=True) as (_, axes):
        for place, axis in enumerate(axes):
            row, column = divmod(place, columns)
            index = row // 2 * columns + column
            if index >= len(names):
                axis.remove()
            elif row % 2 == 0:
                draw_accuracies(axis, calibrations[names[index]], styles, width)
                axis.set_title(panel_title(names[index]))
                percent_axis(axis, "accuracy" if column == 0 else "", limits=(0, 1.02))
            else:
                for label, seeds in calibrations[names[index]].items():
                    bins = merged_bins(seeds)
                    shares = (bins["count"] / max(bins["count"].sum(), 1)).to_numpy()
                    look = {**styles[label], "marker": None}
                    axis.plot(bins.index.to_numpy() + width / 2, shares, **look)
                percent_axis(axis, "samples" if column == 0 else "", limits=(0, None))
                percent_axis(axis, "confidence", which="x", limits=(0, 1.02))
                axis.tick_params(labelbottom=True)


def draw_accuracies(axis: Axes, runs: Mapping[str, Sequence[Calibration]], styles: Styles, width: float) -> None:
    """One prediction's accuracy over its confidence."""
    axis.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle=":", label="perfectly calibrated")
    for label, seeds in runs.items():
        for number, piece in enumerate(runs_of_bins(merged_bins(seeds), width)):
            axis.plot(piece["confidence"], piece["accuracy"], label=None if number else label, **styles[label])
