"""How a model's accuracy falls with the severity of each corruption, and without each modality."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..analysis.robustness import Condition, conditions_of
from .dots import dot_plot
from .style import Styles

MISSING = "missing"
MISSING_LEVEL = 10**6  # the last row


def plot_robustness(
    found: Mapping[str, Sequence[Mapping[str, Any]]], path: str | Path, title: str = "", styles: Styles | None = None
) -> None:
    """Draws a panel for each modality and kind of corruption into a PNG, with clean data, the severities from mild to
    severe, and the modality missing; runs are told by colour, the best on average first.

    Args:
        found: what `robustness_<split>.json` holds, of every seed of a run, by the run's label.
        path: the PNG.
        title: above the panels.
        styles: of the runs.
    """
    records = records_of(found, lambda one, modality: one.accuracy)
    totals: dict[str, list[float]] = {}
    for record in records:
        totals.setdefault(record["series"], []).append(record["value"])
    means = {label: sum(values) / len(values) for label, values in totals.items()}
    panels = list(dict.fromkeys(record["panel"] for record in records))
    records.sort(key=lambda one: (one["level"], panels.index(one["panel"]), -means[one["series"]]))
    dot_plot(records, path, title, label="accuracy", styles=styles, order=None, shared=True)


def plot_votes(
    found: Mapping[str, Sequence[Mapping[str, Any]]], path: str | Path, title: str = "", styles: Styles | None = None
) -> bool:
    """Draws how large a modality's vote is, see [`vote_sizes`](../analysis/robustness.py), on clean data and with each
    corruption of this modality, in the panels of `plot_robustness`, into a PNG.

    Args:
        found, path, title, styles: see there; runs without votes are left out.

    Returns:
        whether any run has votes; if not, there is no PNG.
    """
    records = records_of(found, lambda one, modality: one.votes.get(modality, math.nan))
    records = [one for one in records if one["level"] != MISSING_LEVEL and not math.isnan(one["value"])]
    records.sort(key=lambda one: one["level"])
    if records:
        label = "size of the modality's vote"
        dot_plot(records, path, title, label=label, percent=False, styles=styles, order=None, shared=True)
    return bool(records)


def records_of(
    found: Mapping[str, Sequence[Mapping[str, Any]]], value: Callable[[Condition, str], float]
) -> list[dict[str, Any]]:
    """The records of all runs for `dot_plot`.

    Args:
        found: see `plot_robustness`.
        value: of a condition in a modality's panels.
    """
    return [
        {"series": label, **record, "value": value(one, modality)}
        for label, runs in found.items()
        for run in runs
        for record, one, modality in panel_records(conditions_of(run))
    ]


def panel_records(conditions: Sequence[Condition]) -> list[tuple[dict[str, Any], Condition, str]]:
    """`row` and `panel` of one run for `dot_plot`, and the `level` that sorts the rows; the condition that each is of,
    and the modality whose panel it is in."""
    clean = next(one for one in conditions if one.kind == "clean")
    kinds: dict[tuple[str, str], list[Condition]] = {}
    alone: dict[str, Condition] = {}
    for one in conditions:
        if one.kind == "noisy":
            kinds.setdefault((one.modalities[0], one.corruption), []).append(one)
        elif one.kind == "missing" and len(one.modalities) == 1:
            alone[one.modalities[0]] = one
    for modality in alone:
        if modality not in {name for name, _ in kinds}:
            kinds[modality, ""] = []
    records = []
    for (modality, kind), severities in kinds.items():
        strengths = ", ".join(one.label.removeprefix(kind).strip() for one in severities)
        panel = "\n".join(text for text in (f"{modality}: {kind}" if kind else modality, strengths) if text)
        levels = [("clean", 0, clean), *((f"severity {n}", n, one) for n, one in enumerate(severities, start=1))]
        levels += [(MISSING, MISSING_LEVEL, alone[modality])] if modality in alone else []
        records += [({"panel": panel, "row": row, "level": level}, one, modality) for row, level, one in levels]
    return records
