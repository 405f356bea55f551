"""The rows of a comparison among the runs of its folder, as its records `NAME.jsonl` have them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..analysis.records import read_records, rows_of
from .run_files import RunFiles
from .run_result import flat_result

OF_A_SEARCH = ("setting", "chosen_by")  # what records add to its runs


@dataclass
class RecordedRow:
    """A row of a comparison.

    Attributes:
        file: its records.
        title: what the table calls it.
        runs: those that are there, at least one.
    """

    file: Path
    title: str
    runs: list[RunFiles]


def recorded_rows(path: Path, runs: Sequence[RunFiles]) -> tuple[list[RecordedRow], set[Path]]:
    """The runs of each row of the comparisons whose records lie between a folder and its runs.

    Runs are told by their results; a row has those that are there.

    Args:
        path: a folder.
        runs: all below it.

    Returns:
        the rows in their order, and the folders of the runs that only chose a setting.
    """
    by_result: dict[str, list[RunFiles]] = {}
    for run in runs:
        by_result.setdefault(identity(flat_result(run.result)), []).append(run)
    folders = {above for run in runs for above in run.folder.parents if above == path or path in above.parents}
    rows: list[RecordedRow] = []
    shown: set[tuple[Path, ...]] = set()
    tried: set[Path] = set()
    for file in sorted(file for folder in folders for file in folder.glob("*.jsonl")):
        try:
            found = rows_of(read_records([file]))
        except ValueError:  # another program's
            continue
        for row in found:
            own = {run.folder: run for one in row.runs for run in by_result.get(identity(one), ())[:1]}
            if not own:
                continue
            if tuple(own) not in shown:
                rows.append(RecordedRow(file, row.title, list(own.values())))
                shown.add(tuple(own))
            tried |= {run.folder for one in row.search for run in by_result.get(identity(one), ())}
    return rows, tried.difference(*shown)


def identity(run: Mapping[str, Any]) -> str:
    """What a run's folder and its record have in common: all but what was measured later, and the search's."""
    own = {name: value for name, value in run.items() if "/" not in name and name not in OF_A_SEARCH}
    return json.dumps(own, sort_keys=True)


def parts_of(run: RunFiles) -> set[tuple[str, ...]]:
    """The folders METHOD-HASH/seed-SEED of the models that a run has started or learned from."""
    return {Path(part).parts[-2:] for part in run.result.get("parts", {}).values()}
