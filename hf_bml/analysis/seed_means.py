"""Curves of several seeds as one: mean and standard deviation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd


def mean_curve(curves: Iterable[tuple[Sequence[float], Sequence[float]]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and standard deviation (n - 1) over curves, at every place where all of them have a value.

    Curves that stop earlier, or were logged elsewhere, so change no mean at their end; without a common place, all
    places count.

    Args:
        curves: places and values of each; empty ones are ignored.

    Returns:
        places, means and standard deviations, `(n,)` each; the latter NaN where there is one value.

    Example:
        >>> mean_curve([([1, 2], [0.0, 2.0]), ([1, 2, 3], [1.0, 4.0, 9.0])])[1].tolist()
        [0.5, 3.0]
    """
    series = [pd.Series(values, np.round(places, 6), dtype=float) for places, values in curves if len(places)]
    if not series:
        return (np.empty(0),) * 3
    values = (
        pd.concat(series)
        .groupby(level=0)
        .agg(mean=lambda own: own.mean(skipna=False), std=lambda own: own.std(skipna=False), count="size")
    )
    common = values[values["count"] == len(series)]
    kept = values if common.empty else common
    return kept.index.to_numpy(), kept["mean"].to_numpy(), kept["std"].to_numpy()
