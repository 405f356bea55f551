"""Accuracy with missing modalities in a report; only what was made in the same way is compared."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from ...figures import missing_grids
from ...study.run_groups import RunGroup, per_group, share_text
from ..figure_folder import FigureFolder
from ..page import Table, Text
from ..verdict import listed

Way = tuple[str, str, tuple[int, ...]]  # split, kind of absence, seeds of the masks
ABSENCE_TEXTS = {
    "zero_input": "whose input is then zero",
    "modality_mask": "of which the model is told by its mask",
}


def missing_parts(groups: Sequence[RunGroup], figures: FigureFolder) -> list[Any]:
    """Accuracy with missing modalities; only what was made in the same way is compared."""
    ways = list(dict.fromkeys(missing_way(run.missing) for group in groups for run in group.runs if run.missing))
    parts: list[Any] = []
    if len(ways) > 1:
        what = "These results differ in split, kind of absence or masks. Only equal ones are compared."
        parts.append(Text(what))
    for number, way in enumerate(ways):
        parts += parts_of_way(groups, way, figures, f"missing_{number}" if number else "missing")
    return parts


def missing_way(found: Mapping[str, Any]) -> Way:
    """What must be equal for results with missing modalities to be compared."""
    return found["split"], found["absence"], tuple(found["seeds"])


def parts_of_way(groups: Sequence[RunGroup], way: Way, figures: FigureFolder, name: str) -> list[Any]:
    """Figure and tables of the results that were made in one way."""
    missing = per_group(groups, lambda run: run.missing if run.missing and missing_way(run.missing) == way else None)
    keys = missing_grids.grid_keys(missing)
    if not keys:
        return []
    split, absence, masks = way
    caption = (
        f"Accuracy on {split} when samples lack a modality at random (paper Fig. 6), {ABSENCE_TEXTS[absence]}"
        f"{zeros_text(missing)}; all "
        f"runs see the same masks, of {'seed' if len(masks) == 1 else 'the seeds'} {listed(map(str, masks))}."
    )
    if len(drawn := missing_grids.drawn_keys(missing)) < len(keys):
        caption += (
            f" Shown are {len(drawn)} of {len(keys)} grids, those of the smallest fixed share; the tables have all."
        )
    text = f"Accuracy over the share of missing modalities of {listed(missing)}."
    parts: list[Any] = [figures.draw(name, caption, text, missing_grids.plot_missing, missing)]
    counts = {group.label: len(group.runs) for group in groups}
    for key in keys:
        points = {label: missing_grids.grid_points(seeds, key) for label, seeds in missing.items()}
        rates = sorted({rate for found, _, _ in points.values() for rate in found.tolist()})
        lines = []
        for label, (found, means, spreads) in points.items():
            if len(found):
                seeds = [run for run in missing[label] if key in map(missing_grids.grid_key, run["grids"])]
                cells = dict(zip(found.tolist(), map(accuracy_cell, means, spreads), strict=True))
                complete = accuracy_cell(fmean(run["complete"] for run in seeds))
                tested = share_text(len(seeds), counts[label])
                lines.append([label, tested, complete, *[cells.get(rate, "-") for rate in rates]])
        fixed, rate, varied = key
        title = missing_grids.grid_title({"fixed": fixed, "fixed_rate": rate})
        header = ["run", "seeds", "nothing missing", *[f"{varied} {100 * r:g} %" for r in rates]]
        parts.append(Table(f"Accuracy on {split} in per cent, {title}.", header, lines, folded=True))
    return parts


def zeros_text(missing: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """The modalities whose zeros are not silence, according to the runs' `missing.json`."""
    found = {name: what for seeds in missing.values() for run in seeds for name, what in run.get("zeros", {}).items()}
    return "".join(f" (not silence for {name}: {what})" for name, what in found.items())


def accuracy_cell(mean: float, spread: float = math.nan) -> str:
    """`70.0 ± 1.2`, without the spread where it is NaN."""
    return f"{100 * mean:.1f}" + ("" if math.isnan(spread) else f" ± {100 * spread:.1f}")
