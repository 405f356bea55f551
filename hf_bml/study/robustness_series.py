"""The robustness of several finished runs beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..ground.disk import check_writable
from .errors import is_main_process
from .finished_run import check_modality
from .robustness import (
    parse_corruptions,
    robustness_path,
    robustness_rows,
    robustness_run,
    robustness_text,
    rows_text,
)
from .run_files import modalities_of, read_groups

PICTURE_NAME = "robustness.png"


def robustness_of_runs(
    run_dirs: Sequence[str | Path],
    split: str = "test",
    corruptions: Sequence[str] | None = None,
    seed: int = 0,
    dominant: str | None = None,
    output: str | Path | None = None,
) -> str:
    """Evaluates runs, see `robustness_run`, and draws `robustness.png`.

    Args:
        run_dirs: folders of finished runs, or folders above them, of one data set.
        split, seed, dominant: see `robustness_run`.
        corruptions: texts as of `parse_corruption`.
        output: of the picture; default: the folder of a single run, else the one above the first.

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
        found[run.folder] = robustness_run(run.folder, split, chosen, seed, own)
    parts = [robustness_text(found[runs[0].folder])] if len(runs) == 1 else []
    if len(runs) > 1:
        parts.append(rows_text(*robustness_rows(groups, found, dominant)))
    labelled = {group.label: [found[run.folder] for run in group.runs] for group in groups}
    drawn = draw_robustness(labelled, folder / PICTURE_NAME)
    files = [str(robustness_path(run.folder, split)) for run in runs[:2]]
    files += [f"{len(runs) - 2} more"] if len(runs) > 2 else []
    return "\n\n".join([*parts, f"written to {', '.join([*files, *drawn])}"])


def draw_robustness(found: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> list[str]:
    """The picture, if matplotlib is installed; its path if it was drawn.

    Args:
        found: of every seed of a run, by the run's label.
        path: of the PNG.
    """
    try:
        from ..figures.robustness import plot_robustness
        from ..figures.style import run_styles
    except ImportError:
        print(f"{path.name} is not drawn: matplotlib is missing. Install it with: pip install 'hf_bml[plots]'")
        return []
    plot_robustness(found, path, styles=run_styles(found))
    return [str(path)]
