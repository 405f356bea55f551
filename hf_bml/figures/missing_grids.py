"""What missing modalities cost several runs, in one picture (paper Fig. 6): a line per run, the mean over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .style import (
    Styles,
    percent_axis,
    percent_text,
    picture,
    run_styles,
)

Missing = Mapping[str, Any]  # what missing.json holds
MOST_TICKS = 9  # as many rates as the paper has; more labels would overlap
MOST_GRIDS = 12  # panels; with more, those of the smallest fixed rate are drawn


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


def drawn_keys(missing: Mapping[str, Sequence[Missing]]) -> list[tuple[str, float, str]]:
    """The grids that a picture has room for: all, or of too many those of the smallest fixed rate."""
    keys = grid_keys(missing)
    return keys if len(keys) <= MOST_GRIDS else [key for key in keys if key[1] == min(rate for _, rate, _ in keys)]


def plot_missing(missing: Mapping[str, Sequence[Missing]], path: str | Path, styles: Styles | None = None) -> None:
    """Draws accuracy over the share of samples that lack one modality (paper Fig. 6), a panel per share of another.

    Args:
        missing: every seed's `missing.json`, per run, all made alike; at least one has a grid. Error bars are standard
            deviations over seeds, or over masks where there is one seed.
    """
    keys = drawn_keys(missing)
    styles = styles or run_styles(missing)
    with picture(path, len(keys), columns=2 if len(keys) <= 4 else 3, sharey=True) as (_, axes):
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
                every = 1 if len(ticks) < 6 else 2
                axis.set_xticks(sorted(ticks)[::every], map(percent_text, sorted(ticks)[::every]))
            percent_axis(axis, "accuracy", limits=(None, None))
            axis.set_title(grid_title({"fixed": fixed, "fixed_rate": rate}))
