"""Runs one after the other: finished ones are reused, and all are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from ..analysis.comparison import Row, comparison_notes, comparison_table, row_records, run_records, write_csv
from ..analysis.summary import median_after_warm_up, run_table
from ..ground.disk import disk_errors_named
from ..training.checkpoint import AUTO, resume_request
from . import experiment
from .checks import check_metric, compared_metrics, is_type_metric
from .json_file import write_json
from .plan import Plan
from .recipe import Recipe

SUMMARY_NAME = "summary"


def run_recipes(plan: Plan, compare: str, levels: int) -> None:
    """Runs the plan of `hf-bml train`: a single run is reported, several are compared.

    Of several, finished ones are not trained again; nor is a single one with `--resume_from_checkpoint auto`.

    Args:
        plan: see `plan_recipes`.
        compare: the metric of the paired differences.
        levels: of folders below that of the summary, at least 1 for several runs.
    """
    [(_, recipe), *others] = plan
    if others:
        run_series(
            plan,
            [Path(recipe.training.output_dir), *Path(recipe.training.output_dir).parents][levels],
            SUMMARY_NAME,
            compare,
        )
        return
    may_be_finished = resume_request(recipe.training.resume_from_checkpoint) == AUTO
    result = run_or_reuse(recipe) if may_be_finished else announce_and_run(recipe)
    if recipe.training.process_index == 0:
        report_run(recipe, result)


def report_run(recipe: Recipe, result: dict[str, Any]) -> None:
    """Prints one run's table."""
    print(f"\n{recipe.data.dataset}, {recipe.name}: test split\n")
    print(run_table(result["test"], result["final_ratios"]))
    epoch = median_after_warm_up(result["epoch_seconds"])
    times = f"{result['train_seconds']:.1f} s" + (f", {epoch:.2f} s an epoch" if epoch else "")
    print(f"\ntrained in {times}; everything is in {recipe.training.output_dir}")


def run_series(
    plan: Plan,
    folder: Path,
    name: str,
    compare: str,
    control: str | None = None,
    left_out: Sequence[str] = (),
) -> None:
    """Runs a plan; the main process reports, and keeps what is finished up to date.

    Args:
        plan: see `run_plan`.
        folder: for the tables and the picture.
        name: what their names begin with.
        compare: the metric of the paired differences.
        control: see `comparison_table`.
        left_out: notes on what is not in the plan.

    Raises:
        ValueError: see `run_plan`.
    """
    rows = run_plan(plan, folder, name, compare)
    if plan[0][1].training.process_index == 0:
        text = write_comparison(rows, folder, name, compare, control, str(plan[0][1].data.dataset), left_out)
        print(f"\n{text}\nwritten to {folder / name}.md, .csv, _runs.csv, .json and .png")


def run_plan(plan: Plan, folder: Path, name: str, metric: str) -> list[Row]:
    """Runs what is not finished yet; the main process keeps `NAME.json` up to date.

    Args:
        plan: all runs in order, each with the row that its result belongs to; rows are filled here.
        folder, name: of the JSON file.
        metric: what the first run must yield.

    Returns:
        the rows, each once.

    Raises:
        ValueError: all would push to one repository, or the first run does not yield the metric (`f1_binary` depends
            on the data).
    """
    if len(plan) > 1 and plan[0][1].training.push_to_hub:
        raise ValueError(
            f"push_to_hub: the {len(plan)} runs would overwrite each other on the Hub. Push the one that you choose "
            "afterwards: hf-bml push RUN_DIR --repo-id NAME."
        )
    rows = list({id(row): row for row, _ in plan}.values())
    is_main = plan[0][1].training.process_index == 0
    for number, (row, recipe) in enumerate(plan, start=1):
        row.runs.append(flat_result(run_or_reuse(recipe, f"run {number} of {len(plan)}, ")))
        if is_main:
            write_results(rows, folder, name)
        if number == 1:
            known = [name for name in row.runs[0] if name in compared_metrics(recipe) or is_type_metric(recipe, name)]
            check_metric("--compare", metric, known)
    return rows


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
    times (not of a run that resumed a checkpoint): `train_seconds` without `estimation_seconds`, and
    `epoch_seconds`, the median of the whole epochs after the first.
    """
    estimation = sum((facts.get("estimation_seconds", 0.0) for facts in result.get("modulations", {}).values()), 0.0)
    times = {}
    if not result.get("resumed_from"):
        times["train_seconds"] = result["train_seconds"] - estimation
        if epoch := median_after_warm_up(result.get("epoch_seconds", [])):
            times["epoch_seconds"] = epoch
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
    """`NAME.json`, the runs per row; called after every run, so that it always holds what is finished."""
    results = {row.title: row.runs for row in rows if row.runs}
    write_json(results, folder / f"{name}.json")


def write_comparison(
    rows: Sequence[Row],
    folder: Path,
    name: str,
    compare: str,
    control: str | None = None,
    title: str = "",
    left_out: Sequence[str] = (),
) -> str:
    """Writes `NAME.md`, `NAME.csv` (a line per row), `NAME_runs.csv` (a line per run) and `NAME.png`.

    Returns:
        the Markdown: the table and what a reader must know.
    """
    notes = [*comparison_notes(rows, compare, control), *left_out]
    text = "\n\n".join([comparison_table(rows, compare, control), *notes]) + "\n"
    with disk_errors_named(folder):
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
        write_csv(row_records(rows, compare, control), folder / f"{name}.csv")
        write_csv(run_records(rows), folder / f"{name}_runs.csv")
        draw_bars(rows, folder / f"{name}.png", title)
    return text


def draw_bars(rows: Sequence[Row], path: Path, title: str) -> None:
    """The picture, if matplotlib is installed."""
    try:
        from ..figures.dots import plot_accuracies
    except ImportError:
        print(f"{path.name} is not drawn: matplotlib is missing. Install it with: pip install 'hf_bml[plots]'")
        return
    if not plot_accuracies(rows, path, title):
        print(f"{path.name} is not drawn: no run has an accuracy.")
