"""Curves of several seeds as one: mean and standard deviation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np


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
    values = defaultdict(list)
    count = 0
    for places, heights in curves:
        count += len(places) > 0
        for place, height in zip(places, heights, strict=True):
            values[round(place, 6)].append(height)
    common = [place for place in values if len(values[place]) == count] or list(values)
    kept = sorted(common)
    means = np.asarray([np.mean(values[place]) for place in kept])
    spreads = np.asarray([np.std(values[place], ddof=1) if len(values[place]) > 1 else np.nan for place in kept])
    return np.asarray(kept, dtype=float), means, spreads
