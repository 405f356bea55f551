"""Noisy and missing modalities in a report; only what was made in the same way is compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...analysis.robustness import conditions_of
from ...analysis.robustness_tables import rows_cells
from ...analysis.row import Row
from ...figures.robustness import plot_robustness
from ...study.robustness_series import robustness_rows
from ...study.run_groups import RunGroup
from ..figure_folder import FigureFolder
from ..page import Table, Text
from ..verdict import listed

SPLIT = "test"


def robustness_parts(groups: Sequence[RunGroup], figures: FigureFolder) -> list[Any]:
    """Accuracy under every corruption as dots, and the summary as a table."""
    alike, others = comparable(groups)
    if not alike:
        return []
    rows, notes = robustness_rows(groups, alike)
    measured = {group.label: [alike[run.folder] for run in group.runs if run.folder in alike] for group in groups}
    measured = {label: runs for label, runs in measured.items() if runs}
    seed = next(iter(alike.values()))["seed"]
    caption = (
        f"Accuracy on {SPLIT} with one modality corrupted, from mild to severe (the strengths are above each panel), "
        f"or missing, of which the model is told by its mask. All runs see the same noise, of seed {seed}."
    )
    text = f"Dots of the accuracies under corruption of {listed(measured)}."
    parts: list[Any] = [figures.draw("robustness", caption, text, plot_robustness, measured)]
    parts.append(Table(f"Accuracy on {SPLIT} and calibration errors (ece), times 100.", *rows_cells(rows)))
    saw = {label: runs[0]["training_saw"] for label, runs in measured.items() if runs[0]["training_saw"]}
    same = len(set(saw.values())) == 1
    lines = [next(iter(saw.values()))] if same else [f"{label}: {sentence}" for label, sentence in saw.items()]
    left_out = dict.fromkeys(sentence for runs in measured.values() for run in runs for sentence in run["left_out"])
    notes = [*notes, *lines, *left_out]
    if others:
        notes.append(f"Measured with other corruptions or another seed, and not shown: {listed(others)}.")
    parts.append(Text(lines=notes))
    return parts


def comparable(groups: Sequence[RunGroup]) -> tuple[dict[Path, Mapping[str, Any]], list[str]]:
    """Results by folder that were made as those of the first run that has any, and the labels of others."""
    alike: dict[Path, Mapping[str, Any]] = {}
    others: dict[str, None] = {}
    known: dict[str, list[str]] = {}
    seed = None
    for group in groups:
        for run in (run for run in group.runs if SPLIT in run.robustness):
            found = run.robustness[SPLIT]
            own = noise_of(found)
            seed = found["seed"] if seed is None else seed
            if found["seed"] == seed and all(
                known.get(modality, labels) == labels for modality, labels in own.items()
            ):
                known |= own
                alike[run.folder] = found
            else:
                others[group.label] = None
    return alike, list(others)


def noise_of(found: Mapping[str, Any]) -> dict[str, list[str]]:
    """The corruptions by modality."""
    noise: dict[str, list[str]] = {modality: [] for modality in found["modalities"]}
    for one in conditions_of(found):
        if one.kind == "noisy":
            noise[one.modalities[0]].append(one.label)
    return noise


def robust_rows(groups: Sequence[RunGroup]) -> dict[str, Row]:
    """What a verdict knows of each group's robustness, by label."""
    return {row.label: row for row in robustness_rows(groups, comparable(groups)[0])[0]}
