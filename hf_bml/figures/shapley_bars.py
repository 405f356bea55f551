"""What each modality contributes to the accuracy: Shapley values as bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .style import finish_axis, legend_below, modality_colours, panels, save

Shapley = Mapping[str, Any]  # {"values": {modality: v}, "coalitions": {"": v, "audio": v, "audio+visual": v}}


def mean_values(seeds: Sequence[Shapley], modality: str) -> tuple[float, float]:
    """Mean and standard deviation (n - 1) over seeds; NaN where there are too few."""
    values = [seed["values"][modality] for seed in seeds if modality in seed["values"]]
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
    return (float(np.mean(values)) if values else float("nan")), spread


def plot_shapley(contributions: Mapping[str, Sequence[Shapley]], path: str | Path) -> None:
    """Draws every modality's Shapley value, a group of bars per run, into a PNG.

    The values of a run add up to its accuracy with all modalities minus that with none.

    Args:
        contributions: every seed's Shapley values, in [-1, 1], per run.
        path: the PNG.
    """
    modalities = list(dict.fromkeys(m for seeds in contributions.values() for seed in seeds for m in seed["values"]))
    colours = modality_colours(modalities)
    labels = list(contributions)
    places = np.arange(len(labels))
    width = 0.82 / len(modalities)
    figure, [axis] = panels(1, panel=(7.5, 1.3 + len(labels) * (0.12 + 0.2 * len(modalities))))
    for index, modality in enumerate(modalities):
        table = np.asarray([mean_values(contributions[label], modality) for label in labels]) * 100
        offset = (index - (len(modalities) - 1) / 2) * width
        bars = None if np.isnan(table[:, 1]).all() else np.nan_to_num(table[:, 1])
        error = {"elinewidth": 1, "capsize": 2}
        options = {"height": 0.92 * width, "color": colours[modality], "label": modality}
        axis.barh(places + offset, np.nan_to_num(table[:, 0]), xerr=bars, error_kw=error, **options)
    axis.axvline(0, color="black", linewidth=0.9)
    axis.set_yticks(places, labels, fontsize=9)
    axis.set(xlabel="Shapley value (percentage points of accuracy)", ylim=(len(labels) - 0.4, -0.6))
    finish_axis(axis, grid="x")
    legend_below(figure, [axis])
    save(figure, path)
