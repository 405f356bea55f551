"""Data that was left out, machines and versions, and what a report lacks."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...data.data_report import shortened
from ...study.run_groups import RunGroup
from ..page import Table, Text
from ..verdict import listed

MANY_ROWS = 25  # of a table that the reader opens
MOST_ROWS = 200
MANY_COMMANDS = 4  # which become a loop


def incomplete_parts(groups: Sequence[RunGroup]) -> list[Any]:
    """Samples that were left out, and files that could not be used."""
    left_out, failures = [], []
    for group in groups:
        for run in group.runs:
            for split, reasons in run.result.get("left_out", {}).items():
                for reason, names in reasons.items():
                    left_out.append([group.label, split, reason, str(len(names)), shortened(names)])
            for split, failed in run.result.get("failures", {}).items():
                for one in failed:
                    what = one["file"] or f"row {one['row']}"
                    became = "sample left out" if one["dropped"] else "modality absent"
                    failures.append([group.label, split, what, one["modality"] or "all", one["reason"], became])
    parts: list[Any] = []
    for caption, header, lines in (
        ("Samples that the data set lacks.", ["run", "split", "reason", "samples", "which"], left_out),
        ("Files that could not be used.", ["run", "split", "file", "modality", "reason", "so"], failures),
    ):
        unique = [list(line) for line in dict.fromkeys(map(tuple, lines))]  # seeds of a run share them
        if len(unique) > MOST_ROWS:
            caption = f"{caption} The first {MOST_ROWS} of {len(unique)}; metrics.json has all."
        if unique:
            parts.append(Table(caption, header, unique[:MOST_ROWS], folded=len(unique) > MANY_ROWS))
    return parts or [Text("No sample was left out, and every file could be used.")]


def environment_parts(groups: Sequence[RunGroup]) -> list[Any]:
    """Versions and machines; one column where all runs agree."""
    found = {group.label: [run.result["environment"] for run in group.runs] for group in groups}
    keys = list(dict.fromkeys(key for runs in found.values() for own in runs for key in own))
    cells = {
        label: [", ".join(dict.fromkeys(str(own.get(key, "-")) for own in runs)) for key in keys]
        for label, runs in found.items()
    }
    if len({tuple(own) for own in cells.values()}) == 1:
        rows = [[key, value] for key, value in zip(keys, next(iter(cells.values())), strict=True)]
        return [Table("Of all runs.", ["", "value"], rows)]
    rows = [[key, *[own[index] for own in cells.values()]] for index, key in enumerate(keys)]
    return [Table("Versions and machines.", ["", *cells], rows)]


def commands(command: str, folders: Sequence[Path]) -> list[str]:
    """A command per folder, or one loop over many.

    Example:
        >>> commands("hf-bml probe {}", [Path("a"), Path("b")])
        ['hf-bml probe a', 'hf-bml probe b']
    """
    quoted = [shlex.quote(str(folder)) for folder in folders]
    if len(folders) <= MANY_COMMANDS:
        return [command.format(folder) for folder in quoted]
    each = command.format('"$run"')
    return [f"for run in {' '.join(quoted)}; do {each}; done"]


def absent_parts(groups: Sequence[RunGroup], split: str) -> list[Any]:
    """What runs lack, with the commands that make it."""
    wanted = {
        "Linear probes (--alone adds models of one modality)": (
            "hf-bml probe {}",
            lambda run: run.probe or len(run.modalities) < 2,
        ),
        "Accuracy with noisy and missing modalities": ("hf-bml robustness {}", lambda run: "test" in run.robustness),
        "Accuracy with modalities missing at random": (
            "hf-bml missing {}",
            lambda run: run.missing or len(run.modalities) < 2,
        ),
        f"Classes, calibration, contributions and features on {split}": (
            "hf-bml analyse {}" + ("" if split == "test" else f" --split {split}"),
            lambda run: split in run.analyses,
        ),
    }
    parts: list[Any] = []
    for what, (command, has) in wanted.items():
        folders = [run.folder for group in groups for run in group.runs if not has(run)]
        if folders:
            total = sum(len(group.runs) for group in groups)
            count = f"{len(folders)} of {total} runs" if len(folders) < total else "all runs"
            parts.append(Text(f"{what}: missing for {count}. Made by", commands(command, folders), code=True))
    if any(len(group.runs) == 1 for group in groups):
        single = [group.label for group in groups if len(group.runs) == 1]
        parts.append(
            Text(f"Spread over seeds of {listed(single)}: one was run; hf-bml train RECIPE --seeds 0 1 2 runs more.")
        )
    return parts
