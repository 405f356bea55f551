"""Runs one after the other: finished ones are reused, and all are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from ..analysis.metric_names import is_metric
from ..analysis.row import Row
from ..analysis.summary import median_after_warm_up, run_table
from ..training.checkpoint import AUTO, resume_request
from .after_run import AfterRun
from .claim import wait_for_claim
from .comparison_files import pictures, write_comparison, write_runs
from .metric_checks import check_metric, compared_metrics, is_type_metric
from .plan import Plan
from .recipe import Recipe
from .setting_search import may_lack
from .shard import Shard
from .train_or_reuse import announce_and_run, check_not_pushed, each_run, finished_run, run_or_reuse

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
    columns: Sequence[str] = (),
    records: Path | None = None,
    after: Sequence[AfterRun] = (),
    shard: Shard | None = None,
) -> None:
    """Runs a plan; the main process reports, and keeps what is finished up to date.

    Args:
        plan, records, after, shard: see `run_plan`; of several shards each that finds all runs finished reports.
        folder: for the tables and the picture.
        name: what their names begin with.
        compare: the metric of the paired differences.
        control: see `comparison_table`.
        left_out: notes on what is not in the plan.
        columns: further metrics of the table.

    Raises:
        ValueError: see `run_plan`.
    """
    rows = run_plan(plan, folder, name, compare, columns, records, after, shard)
    if plan[0][1].training.process_index > 0:
        return
    title = str(plan[0][1].data.dataset)
    lines = records or folder / f"{name}.jsonl"
    with nullcontext() if shard is None else wait_for_claim(folder, shard.timeout):
        if shard is not None:
            missing = fill_finished(plan, {}, after)
            write_runs(rows, folder, name, records)
            if missing:
                shards = ", ".join(map(str, sorted({shard.owner(place) for place in missing})))
                print(
                    f"\n{len(missing)} of {len(plan)} runs are not finished; the last shard writes the table. Shards "
                    f"to start again if they do not run any more: {shards} of {shard.count}. A table of what is "
                    f"finished: hf-bml compare --collect {lines}"
                )
                return
        text = write_comparison(rows, folder, name, compare, control, title, left_out, columns)
    lines = f" and {lines}" if rows[0].dataset else ""
    print(f"\n{text}\nwritten to {folder / name}.md, .csv, _runs.csv, .json and {', '.join(pictures(rows))}{lines}")


def run_plan(
    plan: Plan,
    folder: Path,
    name: str,
    metric: str,
    columns: Sequence[str] = (),
    records: Path | None = None,
    after: Sequence[AfterRun] = (),
    shard: Shard | None = None,
) -> list[Row]:
    """Runs what is not finished yet; the main process keeps `NAME.json` and `NAME.jsonl` up to date.

    Args:
        plan: all runs in order, each with the row that its result belongs to; rows are filled here.
        folder, name: of the files.
        metric, columns: what the first run must yield.
        records: another place for the JSON lines.
        after: measured of every run; the file `after_run.json` in its folder keeps it.
        shard: runs a share only; rows then have what is finished.

    Returns:
        the rows, each once.

    Raises:
        ValueError: all would push to one repository, or the first run does not yield the metric (`f1_binary` depends
            on the data).
    """
    check_not_pushed([recipe for _, recipe in plan])
    rows = list({id(row): row for row, _ in plan}.values())
    is_main = plan[0][1].training.process_index == 0

    found: dict[int, dict[str, Any]] = {}
    for place, run in each_run([recipe for _, recipe in plan], "run", after, shard, is_needed=False):
        is_first, is_new = not found, place not in found
        found[place] = run
        if shard is None:
            plan[place][0].runs.append(run)
            if is_main:
                write_runs(rows, folder, name, records)
        elif is_main and is_new:
            with wait_for_claim(folder, shard.timeout):  # others write the same files
                fill_finished(plan, found, after)
                write_runs(rows, folder, name, records)
        if is_first:
            check_run(plan[place][1], run, metric, columns)
    return rows


def fill_finished(plan: Plan, found: dict[int, dict[str, Any]], after: Sequence[AfterRun]) -> list[int]:
    """Fills the rows of a plan, in its order, with the runs found so far, by their places, and those that others have
    finished since; returns the places of the others."""
    for row, _ in plan:
        row.runs = []
    for place, (row, recipe) in enumerate(plan):
        if place not in found and (run := finished_run(recipe, after)) is not None:
            found[place] = run
        if place in found:
            row.runs.append(found[place])
    return [place for place in range(len(plan)) if place not in found]


def check_run(recipe: Recipe, run: Mapping[str, Any], metric: str, columns: Sequence[str]) -> None:
    """Raises ValueError if a run, not of a model that may lack it, lacks the compared metric or one of the columns."""
    valid = {*compared_metrics(recipe)}
    known = [n for n in run if n in valid or "/" in n or is_type_metric(recipe, n)]
    if not may_lack(recipe, metric):
        check_metric("--compare", metric, known)
    for column in (name for name in columns if not may_lack(recipe, name)):
        check_metric("--columns", column, [n for n in run if is_metric(n, run[n])])
