"""What becomes of each class: its accuracy (paper Fig. 8), and which classes are taken for which."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import PowerNorm
from matplotlib.ticker import FuncFormatter

from .dots import dot_plot, wrapped
from .style import JOINT, Styles, panel_title, picture, run_styles

Analysis = Mapping[str, Any]  # what analysis_<split>.json holds
MOST_CLASSES = 12
NUMBERS_UP_TO = 14  # classes whose cells carry numbers
NAMES_UP_TO = 45  # classes that are named at the axes
CONFUSION_MAP = "Blues"


def class_accuracies(seeds: Sequence[Analysis], prediction: str) -> np.ndarray | None:
    """Mean over seeds, `(classes,)`; NaN for a class without samples, None if no seed has the prediction."""
    values = [a["per_class"][prediction] for a in seeds if prediction in a["per_class"]]
    if not values:
        return None
    return pd.DataFrame(values, dtype=float).mean().to_numpy()  # None becomes NaN, which no mean counts


def select_classes(analyses: Mapping[str, Sequence[Analysis]], most: int = MOST_CLASSES) -> list[int]:
    """All classes if there are few, else those where one modality leads the others most in the first run.

    Every modality leads in as many of them as possible. With one modality: the best and the worst classes.

    Returns:
        indices in increasing order.
    """
    first = next(iter(analyses.values()))
    classes = len(first[0]["classes"])
    if classes <= most:
        return list(range(classes))
    names = [name for name in first[0]["per_class"] if name != JOINT] or [JOINT]
    table = np.nan_to_num([class_accuracies(first, name) for name in names])  # (modalities, classes)
    if len(table) == 1:
        order = np.argsort(table[0], kind="stable").tolist()
        return sorted(order[: most // 2] + order[len(order) - (most - most // 2) :])
    leads = [own - np.delete(table, index, axis=0).max(0) for index, own in enumerate(table)]
    ranked = np.argsort(-np.stack(leads), kind="stable")  # (modalities, classes)
    return sorted(list(dict.fromkeys(ranked.T.ravel().tolist()))[:most])  # of each modality the first, the second, ...


def plot_classes(
    analyses: Mapping[str, Sequence[Analysis]],
    path: str | Path,
    styles: Styles | None = None,
    most: int = MOST_CLASSES,
) -> None:
    """Draws the accuracy of classes, a panel per prediction and a dot per run, the best class first, into a PNG.

    Args:
        analyses: every seed's analysis, per run; all of the same classes.
        most: with more classes, so many are shown; see `select_classes`.
    """
    chosen = select_classes(analyses, most)
    classes = next(iter(analyses.values()))[0]["classes"]
    records = [
        {"row": wrapped(str(classes[index])), "panel": panel_title(name), "series": run, "value": values[index]}
        for run, seeds in analyses.items()
        for seed in seeds
        for name, values in seed["per_class"].items()
        for index in chosen
    ]
    title = "" if len(chosen) == len(classes) else f"{len(chosen)} of {len(classes)} classes"
    table = pd.DataFrame(records).astype({"value": float})
    dot_plot(table, path, title, label="accuracy", styles=styles or run_styles(analyses), shared=True)


def class_rows(seeds: Sequence[Analysis]) -> tuple[list[str], list[list[str]]]:
    """One run's table: class, its number, samples, accuracy of each prediction in per cent."""
    names = list(seeds[0]["per_class"])
    values = {name: class_accuracies(seeds, name) for name in names}
    header = ["class", "number", "samples", *[panel_title(name) for name in names]]
    rows = []
    for index, (label, count) in enumerate(zip(seeds[0]["classes"], seeds[0]["counts"], strict=True)):
        cells = [values[name][index] for name in names]
        rows.append([str(label), str(index), str(count), *["-" if math.isnan(v) else f"{100 * v:.1f}" for v in cells]])
    return header, rows


def row_shares(confusion: Sequence[Sequence[int]]) -> np.ndarray:
    """Counts divided by their row's sum, `(classes, classes)`; a class without samples has zeros."""
    counts = np.asarray(confusion, dtype=float)
    return counts / np.maximum(counts.sum(1, keepdims=True), 1)


def most_confused(
    confusion: Sequence[Sequence[int]], classes: Sequence[str], most: int = 10
) -> list[tuple[str, str, int, float]]:
    """True class, predicted class, count and share of the true class of the largest entries off the diagonal.

    Example:
        >>> most_confused([[8, 2], [0, 5]], ["cat", "dog"])
        [('cat', 'dog', 2, 0.2)]
    """
    counts, shares = np.asarray(confusion), row_shares(confusion)
    off = [(t, p) for t, p in zip(*counts.nonzero(), strict=True) if t != p]
    off.sort(key=lambda pair: (-counts[pair], -shares[pair], pair))
    return [(str(classes[t]), str(classes[p]), int(counts[t, p]), float(shares[t, p])) for t, p in off[:most]]


def plot_confusion(
    confusion: Sequence[Sequence[int]], classes: Sequence[str], path: str | Path, title: str = ""
) -> None:
    """Draws the share of every true class that is predicted as each class into a PNG.

    Few classes have numbers in the cells, up to 45 their names at the axes, more their numbers in steps; the colours
    stretch small shares, so that single confusions among many classes are seen.

    Args:
        confusion: counts, rows are true classes.
        classes: names.
    """
    shares = row_shares(confusion)
    count = len(classes)
    side = min(9.0, max(4.6, 2.6 + 0.24 * count if count > NUMBERS_UP_TO else 2.6 + 0.46 * count))
    with picture(path, title=title, panel=(side + 0.9, side), grid=None) as (figure, [axis]):
        image = axis.imshow(shares, cmap=CONFUSION_MAP, norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
        percent = FuncFormatter(lambda value, _: f"{100 * value:.0f} %")
        ticks = [0, 0.01, 0.05, 0.1, 0.25, 0.5, 1] if count > NUMBERS_UP_TO else [0, 0.05, 0.1, 0.25, 0.5, 1]
        bar = figure.colorbar(image, ax=axis, shrink=0.8, format=percent, ticks=ticks)
        bar.set_label("share of the true class")
        if count <= NUMBERS_UP_TO:
            for (row, column), share in np.ndenumerate(shares):
                if share > 0:
                    options = {"ha": "center", "va": "center", "fontsize": 9}
                    axis.text(column, row, f"{100 * share:.0f}", color="white" if share > 0.4 else "black", **options)
        if count <= NAMES_UP_TO:
            names = [textwrap.shorten(str(name), 24, placeholder="…") for name in classes]
            size = 9 if count <= NUMBERS_UP_TO else 7
            rotation = 90 if count > NUMBERS_UP_TO or max(map(len, names)) > 3 else 0
            axis.set_xticks(range(count), names, rotation=rotation, fontsize=size)
            axis.set_yticks(range(count), names, fontsize=size)
        else:
            places = list(range(0, count, max(1, round(count / 12 / 5) * 5)))
            axis.set_xticks(places, map(str, places))
            axis.set_yticks(places, map(str, places))
        number = "" if count <= NAMES_UP_TO else " (number)"
        axis.set(xlabel=f"predicted class{number}", ylabel=f"true class{number}")
