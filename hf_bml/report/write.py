"""The report on finished runs: one page, and its pictures beside it."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from ..analysis.metric_names import compared_by
from ..analysis.row import PLAIN
from ..study.finished_run import check_split
from ..study.metric_checks import check_metric
from ..study.run_groups import RunGroup, read_groups
from .page import Section, Text, render_page

PAGE_NAME = "report.html"
FIGURES_NAME = "figures"


def write_report(
    run_dirs: Sequence[str | Path],
    output: str | Path,
    split: str = "test",
    compare: str = "accuracy",
    title: str | None = None,
) -> Path:
    """Writes `report.html` and `figures/*.png`.

    Args:
        run_dirs: folders of finished runs, or folders above them.
        output: folder; made if it is not there.
        split: whose `analysis_<split>.json` is shown.
        compare: test metric of the paired differences.
        title: of the page.

    Returns:
        the page.

    Raises:
        FileNotFoundError: no finished run there.
        ImportError: matplotlib is not installed.
        ValueError: a file of a run cannot be read, or an option is unknown.
    """
    check_split(split)
    output = Path(output)
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output {str(output)!r} is a file; expected a folder.")
    groups, unfinished = read_groups(run_dirs)
    compare = compared_by([group.row for group in groups], compare)
    check_metric("--compare", compare, sorted({name for group in groups for run in group.row.runs for name in run}))
    try:
        from ..figures.style import run_styles
        from .figure_folder import FigureFolder
        from .sections import build_sections
        from .sections.sensitivity import find_sweeps
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "matplotlib":
            raise
        raise ImportError("figures need matplotlib. Install it with: pip install 'hf_bml[plots]'") from error
    folder = output / FIGURES_NAME
    folder.mkdir(parents=True, exist_ok=True)
    families = by_data(groups)
    sections: list[Section] = []
    shown: set[Path] = set()
    for number, (name, own) in enumerate(families.items(), start=1):
        prefix = f"{number}_{re.sub(r'[^A-Za-z0-9_-]+', '_', own[0].dataset)}_" if len(families) > 1 else ""
        styles = run_styles(group.label for group in own)
        sweeps = [file for file in find_sweeps(own, run_dirs) if file not in shown]
        shown.update(sweeps)
        found = build_sections(own, split, compare, FigureFolder(folder, styles, prefix), sweeps)
        if prefix:
            found = [Section(f"{s.anchor}-{number}", f"{name}: {s.title}", s.parts) for s in found]
        sections += found
    if unfinished:
        lines = [
            f"hf-bml train RECIPE --output_dir {shlex.quote(str(f))} --resume_from_checkpoint last" for f in unfinished
        ]
        text = f"{len(unfinished)} runs have checkpoints but no result and are not shown. They resume with"
        sections.append(Section("unfinished", "Unfinished runs", [Text(text, lines, code=True)]))
    if len(families) > 1:
        note = Text("These runs saw different data (data set, its options, or task); only the same data is compared.")
        sections.insert(0, Section("families", "Data sets", [note, Text(lines=list(families))]))
    page = output / PAGE_NAME
    names = list(dict.fromkeys(group.dataset for group in groups))
    runs = sum(len(group.runs) for group in groups)
    counted = f"{len(groups)} {'run' if len(groups) == 1 else 'runs'}"
    several = "trainings" if any(group.row.folds for group in groups) else "seeds"
    counted += f" with {runs} {several} in all" if runs > len(groups) else ""
    subtitle = f"{counted}, {', '.join(names)}; written {time.strftime('%Y-%m-%d')}"
    page.write_text(render_page(title or f"Balance report: {', '.join(names)}", subtitle, sections), encoding="utf-8")
    return page


def by_data(groups: Sequence[RunGroup]) -> dict[str, list[RunGroup]]:
    """The groups per data set, options of it and task, under names that differ.

    The first of each is what its others are compared to: training without modulations on as many modalities as any.
    """
    families: dict[tuple[object, ...], list[RunGroup]] = {}
    for group in groups:
        families.setdefault(group.data, []).append(group)
    for members in families.values():
        most = max(len(group.modalities) for group in members)
        members.sort(key=lambda group: (group.methods, len(group.modalities)) != (PLAIN, most))
    names = [members[0].dataset for members in families.values()]
    named = {}
    for members in families.values():
        name = members[0].dataset
        if names.count(name) > 1:
            name = f"{name} ({', '.join(group.label for group in members)})"
        named[name] = members
    return named
