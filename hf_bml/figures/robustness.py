"""How a model's accuracy falls with the severity of each corruption, and without each modality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    records = [
        {"series": label, **record}
        for label, runs in found.items()
        for run in runs
        for record in panel_records(conditions_of(run))
    ]
    totals: dict[str, list[float]] = {}
    for record in records:
        totals.setdefault(record["series"], []).append(record["value"])
    means = {label: sum(values) / len(values) for label, values in totals.items()}
    panels = list(dict.fromkeys(record["panel"] for record in records))
    records.sort(key=lambda one: (one["level"], panels.index(one["panel"]), -means[one["series"]]))
    dot_plot(records, path, title, label="accuracy", styles=styles, order=None, shared=True)


def panel_records(conditions: Sequence[Condition]) -> list[dict[str, Any]]:
    """`row`, `panel` and `value` of one run for `dot_plot`, and the `level` that sorts the rows."""
    clean = next(one.accuracy for one in conditions if one.kind == "clean")
    kinds: dict[tuple[str, str], list[Condition]] = {}
    alone: dict[str, float] = {}
    for one in conditions:
        if one.kind == "noisy":
            kinds.setdefault((one.modalities[0], one.corruption), []).append(one)
        elif one.kind == "missing" and len(one.modalities) == 1:
            alone[one.modalities[0]] = one.accuracy
    for modality in alone:
        if modality not in {name for name, _ in kinds}:
            kinds[modality, ""] = []
    records = []
    for (modality, kind), severities in kinds.items():
        strengths = ", ".join(one.label.removeprefix(kind).strip() for one in severities)
        panel = "\n".join(text for text in (f"{modality}: {kind}" if kind else modality, strengths) if text)
        records.append({"panel": panel, "row": "clean", "level": 0, "value": clean})
        for number, one in enumerate(severities, start=1):
            records.append({"panel": panel, "row": f"severity {number}", "level": number, "value": one.accuracy})
        if modality in alone:
            records.append({"panel": panel, "row": MISSING, "level": MISSING_LEVEL, "value": alone[modality]})
    return records
