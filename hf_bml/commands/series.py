"""Runs one after the other: finished ones are reused, and all are compared."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from ..analysis.comparison import Row, comparison_notes, comparison_table, row_records, run_records, write_csv
from . import experiment
from .checks import check_metric, compared_metrics
from .recipe import Recipe


def check_series(chosen: argparse.Namespace) -> None:
    """Raises ValueError for two recipes of one name, or for a seed that stands twice."""
    names = [Path(path).stem for path in chosen.recipes]
    if len(set(names)) != len(names):
        raise ValueError(f"recipes need different file names, found {names}.")
    if chosen.seeds is not None and len(set(chosen.seeds)) != len(chosen.seeds):
        raise ValueError(f"--seeds must differ, found {chosen.seeds}.")


def output_root(recipe: Recipe, name: str = "") -> Path:
    """The recipe's `output_dir`, by default `runs/<dataset>/<name>`."""
    default = Path("runs") / str(recipe.data.dataset).replace(":", ".") / name
    return Path(str(recipe.explicit.get("output_dir", default)))


def run_series(
    plan: Sequence[tuple[Row, Recipe]], folder: Path, name: str, compare: str, control: str | None = None
) -> None:
    """Runs a plan; the main process reports, and keeps what is finished up to date.

    Args:
        plan: all runs in order, each with the row that its result belongs to; rows are filled here.
        folder: for the tables and the picture.
        name: what their names begin with.
        compare: the metric of the paired differences.
        control: see `comparison_table`.

    Raises:
        ValueError: the first run does not yield the metric (`f1_binary` depends on the data).
    """
    rows = list({id(row): row for row, _ in plan}.values())
    is_main = plan[0][1].training.process_index == 0
    for number, (row, recipe) in enumerate(plan, start=1):
        row.runs.append(flat_result(run_or_reuse(recipe, f"run {number} of {len(plan)}, ")))
        if is_main:
            write_results(rows, folder, name)
        if number == 1:
            known = compared_metrics(recipe)
            check_metric("--compare", compare, [metric for metric in known if metric in row.runs[0]])
    if is_main:
        text = write_comparison(rows, folder, name, compare, control, str(plan[0][1].data.dataset))
        print(f"\n{text}\nwritten to {folder / name}.md, .csv, _runs.csv, .json and .png")


def run_or_reuse(recipe: Recipe, prefix: str = "") -> dict[str, Any]:
    """Runs a recipe, unless its folder holds the finished run of one that computes the same."""
    finished = [experiment.finished_result(recipe)]
    if recipe.training.world_size > 1:
        broadcast_object_list(finished)  # the main process decides for all
    if finished[0] is None:
        return announce_and_run(recipe, prefix)
    if recipe.training.process_index == 0:
        print(f"{prefix}{recipe.training.output_dir}: finished before with the same options, not trained again")
    return finished[0]


def announce_and_run(recipe: Recipe, prefix: str = "") -> dict[str, Any]:
    """Runs a recipe; the main process says so."""
    if recipe.training.process_index == 0:
        print(f"{prefix}{recipe.training.output_dir}: training", flush=True)
    return experiment.run(recipe)


def end_processes() -> None:
    """The processes leave together; one that simply exits while its group is open is aborted now and then."""
    state = PartialState()
    state.wait_for_everyone()
    state.destroy_process_group()


def flat_result(result: Mapping[str, Any]) -> dict[str, Any]:
    """A run of a [`Row`](../analysis/comparison.py) from what `metrics.json` holds.

    Test metrics under their own names, `validation_<metric>`, `ratio_<modality>`, `seed`, `device`, `torch`, and the
    times: `train_seconds` (not of a run that went on from a checkpoint) is without `estimation_seconds`.
    """
    estimation = sum((facts.get("estimation_seconds", 0.0) for facts in result.get("modulations", {}).values()), 0.0)
    times = {} if result.get("resumed_from") else {"train_seconds": result["train_seconds"] - estimation}
    return {
        "seed": result["seed"],
        **result["test"],
        **{f"ratio_{modality}": value for modality, value in result["final_ratios"].items()},
        **{f"validation_{name}": value for name, value in result["validation"].items()},
        **times,
        "estimation_seconds": estimation,
        "device": result["environment"]["device"],
        "torch": result["environment"]["torch"],
    }


def write_results(rows: Sequence[Row], folder: Path, name: str) -> None:
    """`NAME.json`, the runs per row; called after every run, so that it holds what is finished, whatever happens."""
    results = {row.title: row.runs for row in rows if row.runs}
    (folder / f"{name}.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def write_comparison(
    rows: Sequence[Row], folder: Path, name: str, compare: str, control: str | None = None, title: str = ""
) -> str:
    """Writes `NAME.md`, `NAME.csv` (a line per row), `NAME_runs.csv` (a line per run) and `NAME.png`.

    Returns:
        the Markdown: the table and what a reader must know.
    """
    notes = comparison_notes(rows, compare, control)
    text = "\n\n".join([comparison_table(rows, compare, control), *notes]) + "\n"
    (folder / f"{name}.md").write_text(text, encoding="utf-8")
    write_csv(row_records(rows, compare, control), folder / f"{name}.csv")
    write_csv(run_records(rows), folder / f"{name}_runs.csv")
    draw_bars(rows, folder / f"{name}.png", title)
    return text


def draw_bars(rows: Sequence[Row], path: Path, title: str) -> None:
    """The picture, if matplotlib is installed."""
    try:
        from ..analysis.bars import plot_bars
    except ImportError:
        print(f"{path.name} is not drawn: matplotlib is missing. Install it with: pip install 'hf_bml[plots]'")
        return
    plot_bars(rows, path, title)
