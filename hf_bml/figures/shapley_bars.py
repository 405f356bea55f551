"""What each modality contributes to the accuracy: Shapley values as bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from .style import bar_groups, modality_colours, picture

Shapley = Mapping[str, Any]  # {"values": {modality: v}, "coalitions": {"": v, "audio": v, "audio+visual": v}}


def plot_shapley(contributions: Mapping[str, Sequence[Shapley]], path: str | Path) -> None:
    """Draws every modality's Shapley value, a group of bars per run, into a PNG.

    The values of a run add up to its accuracy with all modalities minus that with none.

    Args:
        contributions: every seed's Shapley values, in [-1, 1], per run.
    """
    tables = {label: pd.DataFrame([seed["values"] for seed in seeds]) for label, seeds in contributions.items()}
    means = 100 * pd.DataFrame({label: table.mean() for label, table in tables.items()}).T
    spreads = 100 * pd.DataFrame({label: table.std() for label, table in tables.items()}).T
    modalities = list(dict.fromkeys(modality for table in tables.values() for modality in table))
    colours = modality_colours(modalities)
    size = (7.5, 1.3 + len(tables) * (0.12 + 0.2 * len(modalities)))
    with picture(path, panel=size, grid="x") as (_, [axis]):
        bars = [(name, means[name].fillna(0), spreads[name], colours[name]) for name in modalities]
        bar_groups(axis, list(tables), bars)
        axis.axvline(0, color="black", linewidth=0.9)
        axis.set_xlabel("Shapley value (percentage points of accuracy)")
