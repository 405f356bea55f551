"""Accuracy per class, of all modalities and of each alone (paper Fig. 8)."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .style import JOINT, Styles, bar_groups, panel_title, percent_axis, picture, run_styles

Analysis = Mapping[str, Any]  # what analysis_<split>.json holds
MOST_CLASSES = 12
LABEL_WIDTH = 26  # characters


def predictions(analyses: Mapping[str, Sequence[Analysis]]) -> list[str]:
    """`joint`, then the modalities in the order in which they first appear."""
    return list(dict.fromkeys(name for seeds in analyses.values() for a in seeds for name in a["per_class"]))


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
    """Draws the accuracy of classes, a panel per prediction and a bar per run, into a PNG.

    Args:
        analyses: every seed's analysis, per run; all of the same classes.
        most: with more classes, so many are shown; see `select_classes`.
    """
    names = predictions(analyses)
    styles = styles or run_styles(analyses)
    chosen = select_classes(analyses, most)
    first = next(iter(analyses.values()))[0]
    labels = [textwrap.fill(str(first["classes"][index]), LABEL_WIDTH, break_on_hyphens=False) for index in chosen]
    lines = max((label.count("\n") + 1 for label in labels), default=1)
    height = 1.1 + len(chosen) * max(0.17 * lines + 0.06, 0.12 * len(analyses) + 0.1)
    columns = min(len(names), 4)
    size = (max(2.7, 11 / columns / 1.1), height)
    title = "" if len(chosen) == len(first["classes"]) else f"{len(chosen)} of {len(first['classes'])} classes"
    with picture(path, len(names), title, grid="x", columns=columns, panel=size, sharey=True) as (_, axes):
        for axis, name in zip(axes, names, strict=True):
            values = {label: class_accuracies(seeds, name) for label, seeds in analyses.items()}
            shown = {label: None if own is None else own[chosen] for label, own in values.items()}
            bar_groups(
                axis, labels, [(run, own, None, styles[run]["color"]) for run, own in shown.items()], share=0.84
            )
            axis.set_title(panel_title(name))
            percent_axis(axis, "accuracy", which="x")


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
