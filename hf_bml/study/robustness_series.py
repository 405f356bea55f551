"""The robustness of several finished runs beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..analysis.metric_names import MEASURED
from ..analysis.robustness import VALIDATION, with_common_dominant
from ..analysis.robustness_tables import robustness_text, rows_text
from ..analysis.row import Row
from ..ground.disk import check_writable
from .corruption_choice import parse_corruptions
from .errors import is_main_process
from .finished_run import check_modality
from .robustness import prefixed, robustness_path, robustness_run
from .run_files import RunFiles
from .run_groups import RunGroup, modalities_of, read_groups
from .run_result import flat_result

PICTURE_NAME = "robustness.png"
VOTES_NAME = "votes.png"
WITH_TRUST = ", with trust"  # behind a row's label


def robustness_of_runs(
    run_dirs: Sequence[str | Path],
    split: str = "test",
    corruptions: Sequence[str] | None = None,
    seed: int = 0,
    dominant: str | None = None,
    output: str | Path | None = None,
    trust: bool = False,
) -> str:
    """Evaluates runs, see `robustness_run`, and draws `robustness.png` and, of models with votes, `votes.png`.

    Args:
        run_dirs: folders of finished runs, or folders above them, of one data set.
        split, seed, dominant, trust: see `robustness_run`; with trust every run has a second row.
        corruptions: texts as of `parse_corruption`.
        output: of the pictures; default: the folder of a single run, else the one above the first.

    Returns:
        the printed tables: of a single run every condition, of several a row each.

    Raises:
        FileNotFoundError: no finished run there.
        ValueError: see `robustness_run`; or runs of several data sets.
    """
    groups, _ = read_groups(run_dirs)
    if len({group.data for group in groups}) > 1:
        names = ", ".join(dict.fromkeys(f"{group.dataset} ({group.label})" for group in groups))
        raise ValueError(f"expected runs of one data set with equal options, found {names}. Give them one at a time.")
    modalities = modalities_of(groups)
    chosen = parse_corruptions(corruptions, modalities)
    if dominant is not None:
        check_modality("--dominant", dominant, modalities)
    runs = [run for group in groups for run in group.runs]
    folder = Path(output) if output is not None else runs[0].folder if len(runs) == 1 else groups[0].place.parent
    check_writable(folder)
    found: dict[Path, Mapping[str, Any]] = {}
    for number, run in enumerate(runs, start=1):
        if len(runs) > 1 and is_main_process():
            print(f"run {number} of {len(runs)}, {run.folder}", flush=True)
        own = dominant if dominant in run.modalities else None
        found[run.folder] = robustness_run(run.folder, split, chosen, seed, own, trust=trust)
    parts = [robustness_text(found[runs[0].folder])] if len(runs) == 1 else []
    if len(runs) > 1:
        parts.append(rows_text(*robustness_rows(groups, found, dominant)))
    drawn = draw_pictures(by_row(groups, found), folder)
    files = [str(robustness_path(run.folder, split)) for run in runs[:2]]
    files += [f"{len(runs) - 2} more"] if len(runs) > 2 else []
    return "\n\n".join([*parts, f"written to {', '.join([*files, *drawn])}"])


def robustness_rows(
    groups: Sequence[RunGroup], found: Mapping[Path, Mapping[str, Any]], dominant: str | None = None
) -> tuple[list[Row], list[str]]:
    """A row per group of seeds, with the same dominant modality in all, and notes on what was averaged.

    Args:
        groups: the runs.
        found: of `robustness_run` on test, by folder; runs without are left out.
        dominant: the dominant modality; default: see `with_common_dominant`.
    """
    rows = []
    for group in groups:
        measured_runs = [(run, found[run.folder]) for run in group.runs if run.folder in found]
        runs = [{**flat_result(run.result), **run_entries(run, own)} for run, own in measured_runs]
        rows += [Row(group.label, methods=group.methods, runs=runs)] if runs else []
        trusted = [(run, own["trust"]["summary"]) for run, own in measured_runs if "trust" in own]
        runs = [{"seed": run.result["seed"], **prefixed(summary, MEASURED)} for run, summary in trusted]
        rows += [Row(f"{group.label}{WITH_TRUST}", methods=group.methods, runs=runs)] if runs else []
    return with_common_dominant(rows, dominant)


def by_row(groups: Sequence[RunGroup], found: Mapping[Path, Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The results by the rows' labels; of those with trust the conditions are another row's."""
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for group in groups:
        own = [found[run.folder] for run in group.runs if run.folder in found]
        trusted = [{**one, **one["trust"]} for one in own if "trust" in one]
        rows |= {group.label: own} | ({f"{group.label}{WITH_TRUST}": trusted} if trusted else {})
    return {label: own for label, own in rows.items() if own}


def run_entries(run: RunFiles, found: Mapping[str, Any]) -> dict[str, Any]:
    """What a row knows of a run's robustness: its numbers, and those of validation or what the dominant modality was
    read from there."""
    validation = {}
    if "validation" in run.robustness:
        validation = prefixed(run.robustness["validation"]["summary"], VALIDATION)
    elif "without" in found["dominant"]:
        validation = {f"{VALIDATION}missing_{name}": v for name, v in found["dominant"]["without"].items()}
        validation[f"{VALIDATION}clean"] = found["dominant"]["clean"]
    return {**validation, **prefixed(found["summary"], MEASURED)}


def draw_pictures(found: Mapping[str, Sequence[Mapping[str, Any]]], folder: Path) -> list[str]:
    """The pictures, if matplotlib is installed; the paths of those that were drawn.

    Args:
        found: of every seed of a row, by its label.
        folder: for the PNGs.
    """
    try:
        from ..figures.robustness import plot_robustness, plot_votes
        from ..figures.style import run_styles
    except ImportError:
        print(f"{PICTURE_NAME} is not drawn: matplotlib is missing. Install it with: pip install 'hf_bml[plots]'")
        return []
    paths = [folder / PICTURE_NAME, folder / VOTES_NAME]
    plot_robustness(found, paths[0], styles=run_styles(found))
    has_votes = plot_votes(found, paths[1], styles=run_styles(found))
    return [str(path) for path in paths[: 1 + has_votes]]
