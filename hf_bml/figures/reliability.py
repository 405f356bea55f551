"""Whether a prediction is right as often as it claims: reliability diagrams of the joint and unimodal predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from .style import PANEL, Styles, finish_axis, legend_below, panel_title, percent_axis, run_styles, save

Calibration = Mapping[str, Any]  # {"ece": ..., "bins": [{"lower", "confidence", "accuracy", "count"}]}


def merged_bins(seeds: Sequence[Calibration]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Confidence, accuracy and count of the bins of several seeds: means weighted by the counts.

    Returns:
        `(n,)` each, by confidence, without empty bins.

    Example:
        >>> first = {"lower": 0.5, "confidence": 0.9, "accuracy": 1.0, "count": 3}
        >>> second = {"lower": 0.5, "confidence": 0.7, "accuracy": 0.0, "count": 1}
        >>> [values.tolist() for values in merged_bins([{"bins": [first]}, {"bins": [second]}])]
        [[0.85], [0.75], [4.0]]
    """
    bins = [found for seed in seeds for found in seed["bins"] if found["count"]]
    merged = []
    for lower in sorted({found["lower"] for found in bins}):
        own = [found for found in bins if found["lower"] == lower]
        counts = [found["count"] for found in own]
        means = [np.average([found[key] for found in own], weights=counts) for key in ("confidence", "accuracy")]
        merged.append((*means, sum(counts)))
    table = np.asarray(merged, dtype=float).reshape(-1, 3).round(12)
    return table[:, 0], table[:, 1], table[:, 2]


def plot_reliability(
    calibrations: Mapping[str, Mapping[str, Sequence[Calibration]]], path: str | Path, styles: Styles | None = None
) -> None:
    """Draws accuracy over confidence, and the share of samples per confidence, a column per prediction, into a PNG.

    Args:
        calibrations: per prediction (`joint` and modalities) and run, every seed's calibration.
        path: the PNG.
        styles: line options per run; by default those of the runs shown.
    """
    names = list(calibrations)
    width, height = PANEL
    figure = Figure(figsize=(max(5.0, 0.85 * width * len(names)), height + 1.4), layout="constrained")
    grid = figure.subplots(2, len(names), squeeze=False, sharex=True, sharey="row", height_ratios=(3, 1))
    styles = styles or run_styles(dict.fromkeys(label for runs in calibrations.values() for label in runs))
    for column, name in enumerate(names):
        upper, lower = grid[:, column]
        upper.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle=":", label="perfectly calibrated")
        for label, seeds in calibrations[name].items():
            confidence, accuracy, count = merged_bins(seeds)
            upper.plot(confidence, accuracy, label=label, **styles[label])
            lower.plot(confidence, count / max(count.sum(), 1), **{**styles[label], "markersize": 3})
        upper.set_title(panel_title(name))
        percent_axis(upper, "accuracy" if column == 0 else "", limits=(0, 1.02))
        percent_axis(lower, "share of samples" if column == 0 else "", limits=(None, None))
        percent_axis(lower, "confidence of the prediction", which="x", limits=(0, 1.02))
        for axis in (upper, lower):
            finish_axis(axis)
    grid[1, 0].set_ylim(0, None)  # after all columns, which share it
    legend_below(figure, list(grid[0]))
    save(figure, path)
