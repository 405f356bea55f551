"""Accuracy when test samples lack modalities (paper Fig. 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .style import Styles, percent_axis, percent_text, picture, run_styles

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
    grids = [
        pd.DataFrame(grid).drop_duplicates("rates").set_index("rates")
        for run in runs
        for grid in run["grids"]
        if grid_key(grid) == key
    ]
    if not grids:
        return (np.empty(0),) * 3
    accuracies = pd.concat([grid["accuracy"] for grid in grids], axis=1, join="inner").sort_index()
    spreads = accuracies.std(axis=1) if len(grids) > 1 else grids[0]["std"].astype(float).sort_index()
    return accuracies.index.to_numpy(), accuracies.mean(axis=1).to_numpy(), spreads.to_numpy()


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
    """
    keys = grid_keys(missing)
    styles = styles or run_styles(missing)
    with picture(path, len(keys), columns=2, sharey=True) as (_, axes):
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
