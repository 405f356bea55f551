"""Accuracy when test samples lack modalities (paper Fig. 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .style import Styles, finish_axis, legend_below, panels, percent_axis, percent_text, run_styles, save

MOST_TICKS = 9  # as many rates as the paper has; more labels would overlap
Missing = Mapping[str, Any]  # what missing.json holds


def grid_title(grid: Mapping[str, Any]) -> str:
    """`10 % of audio missing`."""
    return f"{100 * grid['fixed_rate']:g} % of {grid['fixed']} missing"


def grid_points(runs: Sequence[Missing], key: tuple[str, float, str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rates, mean accuracy and its spread: over the runs if there are several, else over the run's masks.

    Args:
        runs: every seed's `missing.json`.
        key: fixed modality, its rate and the varied modality.

    Returns:
        `(n,)` each, at the rates that all runs with such a grid have; the spreads NaN for one run with one mask.
    """
    grids = [grid for run in runs for grid in run["grids"] if grid_key(grid) == key]
    rates = sorted(set.intersection(*(set(grid["rates"]) for grid in grids))) if grids else []
    at = [[grid["rates"].index(rate) for rate in rates] for grid in grids]
    accuracies = np.asarray([[grid["accuracy"][i] for i in own] for grid, own in zip(grids, at, strict=True)])
    if len(grids) > 1:
        return np.asarray(rates), accuracies.mean(0), accuracies.std(0, ddof=1)
    spreads = [[grid["std"][i] for i in own] for grid, own in zip(grids, at, strict=True)]
    return np.asarray(rates), accuracies.reshape(-1), np.asarray(spreads, dtype=float).reshape(-1)


def grid_key(grid: Mapping[str, Any]) -> tuple[str, float, str]:
    """What tells grids apart."""
    return grid["fixed"], grid["fixed_rate"], grid["varied"]


def grid_keys(missing: Mapping[str, Sequence[Missing]]) -> list[tuple[str, float, str]]:
    """Every grid that can be shown of any run, in the order in which they first appear."""
    keys = dict.fromkeys(grid_key(g) for seeds in missing.values() for run in seeds for g in run["grids"])
    return [key for key in keys if any(len(grid_points(seeds, key)[0]) for seeds in missing.values())]


def plot_missing(missing: Mapping[str, Sequence[Missing]], path: str | Path, styles: Styles | None = None) -> None:
    """Draws accuracy over the share of samples that lack one modality, a panel per share of the other, into a PNG.

    Args:
        missing: every seed's `missing.json`, per run, all made alike; at least one has a grid. Error bars are standard
            deviations over seeds, or over masks where there is one seed.
        path: the PNG.
        styles: line options per run; by default those of the runs shown.
    """
    keys = grid_keys(missing)
    styles = styles or run_styles(missing)
    figure, axes = panels(len(keys), columns=2, sharey=True)
    for axis, key in zip(axes, keys, strict=True):
        fixed, rate, varied = key
        ticks: set[float] = set()
        for label, runs in missing.items():
            rates, means, spreads = grid_points(runs, key)
            if len(rates):
                bars = None if np.isnan(spreads).all() else spreads
                axis.errorbar(rates, means, yerr=bars, label=label, capsize=2, elinewidth=0.8, **styles[label])
                ticks.update(rates.tolist())
        percent_axis(axis, f"{varied} missing", which="x", limits=(None, None))
        if len(ticks) <= MOST_TICKS:
            axis.set_xticks(sorted(ticks), map(percent_text, sorted(ticks)), fontsize=8)
        percent_axis(axis, "accuracy", limits=(None, None))
        axis.set_title(grid_title({"fixed": fixed, "fixed_rate": rate}))
        finish_axis(axis)
    legend_below(figure, axes)
    save(figure, path)
