"""What `hf-bml sensitivity` wrote into the folders that a report is made of."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...analysis.sensitivity import CHOSEN
from ...analysis.summary import read_markdown_table
from ...study.run_groups import RunGroup
from ..figure_folder import FigureFolder
from ..page import Figure, Table, Text
from ..verdict import listed


def find_sweeps(groups: Sequence[RunGroup], paths: Sequence[str | Path]) -> list[Path]:
    """The `NAME.md` of every sensitivity in the given folders, or between them and the runs.

    Args:
        groups: the runs found there.
        paths: folders that the report is made of.
    """
    given = {Path(path).resolve() for path in paths}
    above = {parent for group in groups for run in group.runs for parent in run.folder.resolve().parents}
    folders = sorted(folder for folder in above if given & {folder, *folder.parents})
    return [file for folder in folders for file in sorted(folder.glob("*.md")) if is_sweep(file)]


def is_sweep(file: Path) -> bool:
    """Whether `hf-bml sensitivity` wrote a Markdown file, and nothing else did."""
    if not file.with_suffix(".json").is_file():
        return False
    header = file.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
    return header.startswith("|") and header.strip("| ").endswith(f"| {CHOSEN}")


def sensitivity_parts(files: Sequence[Path], figures: FigureFolder) -> list[Any]:
    """The picture, if there is one, the table and the notes of every sensitivity."""
    parts: list[Any] = []
    for number, file in enumerate(files):
        table, *notes = file.read_text(encoding="utf-8").strip().split("\n\n")
        header, rows = read_markdown_table(table)
        name, options = f"{file.parent.name}/{file.stem}", listed(header[: header.index("seeds")])
        if file.with_suffix(".png").is_file():
            path = figures.path(f"sensitivity_{number}" if number else "sensitivity")
            shutil.copyfile(file.with_suffix(".png"), path)
            caption = f"{name}: how the results depend on {options} (paper Fig. 9)."
            parts.append(Figure(path, caption, f"Validation and test results over {options}."))
        parts.append(Table(f"{name}: every setting of {options} (paper Table 1).", header, rows))
        parts.append(Text(lines=notes))
    return parts
