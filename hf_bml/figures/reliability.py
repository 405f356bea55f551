"""Whether a prediction is right as often as it claims: reliability diagrams of the joint and unimodal predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .style import PANEL, Styles, panel_title, percent_axis, picture, run_styles

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
    columns = ["lower", "confidence", "accuracy", "count"]
    bins = pd.DataFrame([found for seed in seeds for found in seed["bins"]], columns=columns, dtype=float)
    bins[["confidence", "accuracy"]] = bins[["confidence", "accuracy"]].mul(bins["count"], axis=0)
    merged = bins[bins["count"] > 0].groupby("lower").sum()
    means = merged[["confidence", "accuracy"]].div(merged["count"], axis=0).round(12)
    return means["confidence"].to_numpy(), means["accuracy"].to_numpy(), merged["count"].to_numpy()


def plot_reliability(
    calibrations: Mapping[str, Mapping[str, Sequence[Calibration]]], path: str | Path, styles: Styles | None = None
) -> None:
    """Draws accuracy over confidence, and the share of samples per confidence, a column per prediction, into a PNG.

    Args:
        calibrations: per prediction (`joint` and modalities) and run, every seed's calibration.
    """
    names = list(calibrations)
    width, height = PANEL
    styles = styles or run_styles(dict.fromkeys(label for runs in calibrations.values() for label in runs))
    shape = {"columns": len(names), "panel": (0.85 * width, (height + 1.4) / 2), "height_ratios": (3, 1)}
    with picture(path, 2 * len(names), **shape, sharex=True, sharey="row") as (_, axes):
        for column, (name, upper, lower) in enumerate(zip(names, axes, axes[len(names) :], strict=False)):
            upper.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle=":", label="perfectly calibrated")
            for label, seeds in calibrations[name].items():
                confidence, accuracy, count = merged_bins(seeds)
                upper.plot(confidence, accuracy, label=label, **styles[label])
                lower.plot(confidence, count / max(count.sum(), 1), **{**styles[label], "markersize": 3})
            upper.set_title(panel_title(name))
            percent_axis(upper, "accuracy" if column == 0 else "", limits=(0, 1.02))
            percent_axis(lower, "share of samples" if column == 0 else "", limits=(None, None))
            percent_axis(lower, "confidence of the prediction", which="x", limits=(0, 1.02))
        axes[-1].set_ylim(0, None)  # after all columns, which share it
