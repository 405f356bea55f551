"""Features of each modality in two dimensions (t-SNE), coloured by class."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from .style import COLOURS, MARKERS, panel_title, picture

MOST_CLASSES = 12  # that can be told apart
CLASS_COLOURS = (*COLOURS, "#000000")
OTHERS_COLOUR = "#C8C8C8"


def plot_embeddings(
    embeddings: Mapping[str, Sequence[Sequence[float]]], classes: Sequence[str], path: str | Path, title: str = ""
) -> None:
    """Draws a panel per modality into a PNG; with many classes the most frequent ones have colours, the rest is grey.

    Args:
        embeddings: `[x, y, label]` of every sample, per modality (and `joint`).
        classes: names by label.
    """
    tables = {name: np.asarray(points, dtype=float) for name, points in embeddings.items()}
    counts = Counter(int(label) for table in tables.values() for label in table[:, 2])
    frequent = sorted(label for label, _ in counts.most_common(MOST_CLASSES))
    look = {"panel": (3.5, 3.3), "grid": None, "legend_columns": 6, "marker_scale": 1.8}
    with picture(path, len(tables), title, **look) as (_, axes):
        for axis, (name, table) in zip(axes, tables.items(), strict=True):
            labels = table[:, 2].astype(int)
            rest = ~np.isin(labels, frequent)
            size = float(np.clip(4000 / max(len(table), 1), 6, 26))
            if rest.any():
                other = f"{len(counts) - len(frequent)} other classes"
                axis.scatter(*table[rest, :2].T, s=size * 0.6, color=OTHERS_COLOUR, label=other, linewidths=0)
            for index, label in enumerate(frequent):
                axis.scatter(
                    *table[labels == label, :2].T,
                    s=size,
                    color=CLASS_COLOURS[index % len(CLASS_COLOURS)],
                    marker=MARKERS[(index + index // len(CLASS_COLOURS)) % len(MARKERS)],
                    label=textwrap.shorten(str(classes[label]), 30, placeholder="…"),
                    alpha=0.75,
                    linewidths=0,
                )
            axis.set(title=panel_title(name), xticks=[], yticks=[])
