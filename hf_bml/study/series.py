"""Runs one after the other: finished ones are reused, and all are compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from ..analysis.comparison_csv import row_records, run_records, write_csv
from ..analysis.comparison_notes import comparison_notes
from ..analysis.comparison_table import comparison_table
from ..analysis.metric_names import MEASURED, is_metric
from ..analysis.pooled import pooled_table
from ..analysis.ranks import Ranks, rank_methods, ranks_text
from ..analysis.records import records_of, write_records
from ..analysis.references import best_run
from ..analysis.robustness import shown_columns, with_common_dominant
from ..analysis.row import Row
from ..analysis.summary import median_after_warm_up, run_table
from ..ground.disk import disk_errors_named
from ..training.checkpoint import AUTO, resume_request
from . import experiment
from .checks import check_metric, compared_metrics, is_type_metric
from .claim import Claim, ClaimCheck, wait_for_claim
from .comparison import Contender
from .json_file import read_json, write_json
from .plan import Plan
from .recipe import Recipe
from .shard import Shard

SUMMARY_NAME = "summary"


@dataclass(frozen=True)
class AfterRun:
    """What is measured of every finished run beside its own metrics, such as robustness: part of its result.

    Attributes:
        key: names it together with its options; what a run has been measured by this key is not measured again.
        measure: takes the recipe and what `metrics.json` holds, returns numbers by name, each with a `/` in it, those
            of the validation split behind `validation_`. Under a launcher every process calls it.
    """

    key: str
    measure: Callable[[Recipe, Mapping[str, Any]], Mapping[str, float]]


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
    print(f"\n{text}\nwritten to {folder / name}.md, .csv, _runs.csv, .json and .png{lines}")


def choose_settings(
    contenders: Sequence[Contender], metric: str, after: Sequence[AfterRun] = (), shard: Shard | None = None
) -> Plan:
    """Runs each setting of the rows that have several, and plans the best on validation.

    Args:
        contenders: the rows; their `setting` and `search` are filled here.
        metric: `validation_<metric>` chooses; `validation_accuracy` in a row none of whose runs has it, such as models
            of one modality, of which none can be missing.
        after: see `run_plan`.
        shard: searches together with others, and waits for them.

    Returns:
        the runs of all rows, sorted by how the splits are cut, so that runs of the same data follow each other.

    Raises:
        ValueError: the first run does not yield the metric.
    """
    searches = [contender for contender in contenders if len(contender.trials) > 1]
    trials = [(contender.row, trial) for contender in searches for trial in contender.trials]
    check_not_pushed([trial.recipe for _, trial in trials])
    key = f"validation_{metric.removeprefix('validation_')}"
    found = {}
    for place, run in each_run([trial.recipe for _, trial in trials], "search run", after, shard, is_needed=True):
        if not may_lack(trials[place][1].recipe, key):
            check_metric("--select", key, [name for name in run if name.startswith("validation_")])
        found[place] = run
    for place, (row, trial) in enumerate(trials):
        row.search.append({"setting": trial.setting, **found[place]})
    tried, _ = with_common_dominant([replace(contender.row, runs=contender.row.search) for contender in searches])
    for contender, row in zip(searches, tried, strict=True):
        chosen_by = key if any(key in run for run in row.runs) else "validation_accuracy"
        contender.row.search = [{"chosen_by": chosen_by, **run} for run in row.runs]
    plan: Plan = []
    for contender in contenders:
        row, trials = contender.row, contender.trials
        best = trials[best_run(row.search, row.search[0]["chosen_by"]) if len(trials) > 1 else 0]
        row.setting = best.setting if len(trials) > 1 else ""
        plan += best.plan_seeds()
    return sorted(plan, key=lambda run: split_order(run[1]))


def may_lack(recipe: Recipe, metric: str) -> bool:
    """Whether a run without this metric is no mistake: a model of one modality is not measured without it."""
    is_alone = len(recipe.model.modalities or ()) == 1
    return is_alone and metric.removeprefix("validation_").startswith(MEASURED)


def split_order(recipe: Recipe) -> tuple[int, int]:
    """Sorts runs with equally cut splits behind each other, and leaves all others in their order."""
    return recipe.data.fold or 0, recipe.training.seed if recipe.data.train_per_class else 0


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


def each_run(
    recipes: Sequence[Recipe], what: str, after: Sequence[AfterRun], shard: Shard | None, is_needed: bool
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields runs by their places: all in order or, of a shard, see `Shard.each_run`."""

    def train(place: int, claim: Claim | None = None) -> dict[str, Any]:
        return flat_run(recipes[place], f"{what} {place + 1} of {len(recipes)}, ", after, shard, claim)

    if shard is None:
        yield from ((place, train(place)) for place in range(len(recipes)))
    else:
        folders = [Path(recipe.training.output_dir) for recipe in recipes]
        yield from shard.each_run(folders, lambda place: finished_run(recipes[place], after), train, is_needed)


def check_not_pushed(recipes: Sequence[Recipe]) -> None:
    """Raises ValueError for several runs that would all push to one repository."""
    if len(recipes) > 1 and recipes[0].training.push_to_hub:
        raise ValueError(
            f"push_to_hub: the {len(recipes)} runs would overwrite each other on the Hub. Push the one you choose "
            "afterwards: hf-bml push RUN_DIR --repo-id NAME."
        )


def flat_run(
    recipe: Recipe,
    prefix: str = "",
    after: Sequence[AfterRun] = (),
    shard: Shard | None = None,
    claim: Claim | None = None,
) -> dict[str, Any]:
    """A run of a [`Row`](../analysis/comparison.py), trained unless it is finished, with what is measured after it."""
    result = run_or_reuse(recipe, prefix, shard, claim)
    flat = flat_result(result)
    for one in after:
        flat |= measured(recipe, result, one)
    return flat


def finished_run(recipe: Recipe, after: Sequence[AfterRun]) -> dict[str, Any] | None:
    """`flat_run` of a run that is finished and measured; None otherwise."""
    result = experiment.finished_result(recipe)
    known = known_measures(recipe)
    if result is None or any(one.key not in known for one in after):
        return None
    flat = flat_result(result)
    for one in after:
        flat |= known[one.key]
    return flat


def known_measures(recipe: Recipe) -> dict[str, Any]:
    """What has been measured of a finished run, by the key of `AfterRun`."""
    path = Path(recipe.training.output_dir) / experiment.AFTER_NAME
    return read_json(path) if path.is_file() else {}


def measured(recipe: Recipe, result: Mapping[str, Any], after: AfterRun) -> dict[str, float]:
    """What `after` measures of a finished run, or has measured before."""
    known = [known_measures(recipe)]
    if recipe.training.world_size > 1:
        broadcast_object_list(known)  # the main process decides for all
    if after.key not in known[0]:
        known[0][after.key] = dict(after.measure(recipe, result))
        if recipe.training.process_index == 0:
            write_json(known[0], Path(recipe.training.output_dir) / experiment.AFTER_NAME)
    return known[0][after.key]


def run_or_reuse(
    recipe: Recipe, prefix: str = "", shard: Shard | None = None, claim: Claim | None = None
) -> dict[str, Any]:
    """Runs a recipe, unless its folder holds the finished run of one that computes the same."""
    finished = [experiment.finished_result(recipe)]
    if recipe.training.world_size > 1:
        broadcast_object_list(finished)  # the main process decides for all
    if finished[0] is None:
        return announce_and_run(recipe, prefix, shard, claim)
    if recipe.training.process_index == 0:
        print(f"{prefix}{recipe.training.output_dir}: finished before with the same options, not trained again")
    return finished[0]


def announce_and_run(
    recipe: Recipe, prefix: str = "", shard: Shard | None = None, claim: Claim | None = None
) -> dict[str, Any]:
    """Runs a recipe, and before it the parts that it starts from; the main process says so.

    Args:
        recipe: what is run.
        prefix: of what is said.
        shard: parts are then trained under a claim, or waited for.
        claim: ends the training when it is lost.
    """
    if shard is None:
        for part in recipe.parts.values():
            run_or_reuse(part, prefix)
    else:
        for _ in each_run(list(recipe.parts.values()), f"{prefix}part", (), shard, is_needed=True):
            pass
    if recipe.training.process_index == 0:
        print(f"{prefix}{recipe.training.output_dir}: training", flush=True)
    return experiment.run(recipe, *([] if claim is None else [ClaimCheck(claim)]))


def end_processes() -> None:
    """The processes leave together; one that simply exits while its group is open is aborted now and then."""
    state = PartialState()
    state.wait_for_everyone()
    state.destroy_process_group()


def flat_result(result: Mapping[str, Any]) -> dict[str, Any]:
    """A run of a [`Row`](../analysis/comparison.py) from what `metrics.json` holds.

    Test metrics under their own names, `validation_<metric>`, `ratio_<modality>`, `seed`, `device`, `torch`, and the
    times (not of a run that resumed a checkpoint): `train_seconds` without `estimation_seconds`, and
    `epoch_seconds`, the median of the whole epochs after the first. Where there are such, `fold` and `protocol`, the
    number of `trainings` of a run that has parts, and versions and date.
    """
    estimation = sum((facts.get("estimation_seconds", 0.0) for facts in result.get("modulations", {}).values()), 0.0)
    times = {}
    if not result.get("resumed_from"):
        times["train_seconds"] = result["train_seconds"] - estimation
        if epoch := median_after_warm_up(result.get("epoch_seconds", [])):
            times["epoch_seconds"] = epoch
    further: dict[str, Any] = {}
    if protocol := result.get("protocol"):
        further |= {"protocol": protocol} | ({"fold": protocol["fold"]} if "fold" in protocol else {})
    if "trainings" in result:
        further["trainings"] = result["trainings"]
    return {
        "seed": result["seed"],
        **result["test"],
        **{f"ratio_{modality}": value for modality, value in result["final_ratios"].items()},
        **{f"validation_{name}": value for name, value in result["validation"].items()},
        **times,
        "estimation_seconds": estimation,
        "device": result["environment"]["device"],
        "torch": result["environment"]["torch"],
        **{
            name: result["environment"][name]
            for name in ("hf_bml", "transformers", "date")
            if name in result["environment"]
        },
        **further,
    }


def write_results(rows: Sequence[Row], folder: Path, name: str) -> None:
    """`NAME.json`, the runs per row; called after every run, so that it always holds what is finished."""
    results = {row.title: row.runs for row in rows if row.runs}
    write_json(results, folder / f"{name}.json")


def write_runs(rows: Sequence[Row], folder: Path, name: str, records: Path | None = None) -> None:
    """`NAME.json`, and the JSON lines of rows that know their data set, in another place if need be."""
    write_results(rows, folder, name)
    if rows[0].dataset:
        with disk_errors_named(folder):
            write_records(records_of(rows), records or folder / f"{name}.jsonl")


def write_comparison(
    rows: Sequence[Row],
    folder: Path,
    name: str,
    compare: str,
    control: str | None = None,
    title: str = "",
    left_out: Sequence[str] = (),
    columns: Sequence[str] = (),
) -> str:
    """Writes `NAME.md`, `NAME.csv` (a line per row), `NAME_runs.csv` (a line per run) and `NAME.png`; where methods
    are ranked over at least three data sets, `NAME_ranks.png`.

    Returns:
        the Markdown: the table and what a reader must know.
    """
    rows, robustness_notes = with_common_dominant(rows)
    columns = list(dict.fromkeys([*columns, *shown_columns(rows)]))
    notes = [*comparison_notes(rows, compare, control), *robustness_notes, *left_out]
    parts = [comparison_table(rows, compare, control, columns), *notes]
    if pooled := pooled_table(rows, [compare, *columns], control):
        parts.append(pooled)
    if ranks := rank_methods(rows, compare, control):
        parts.append(ranks_text(ranks, compare))
    text = "\n\n".join(parts) + "\n"
    with disk_errors_named(folder):
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
        write_csv(row_records(rows, compare, control), folder / f"{name}.csv")
        write_csv(run_records(rows), folder / f"{name}_runs.csv")
        draw_pictures(rows, ranks, folder / f"{name}.png", title)
    return text


def draw_pictures(rows: Sequence[Row], ranks: Ranks | None, path: Path, title: str) -> None:
    """The pictures, if matplotlib is installed."""
    try:
        from ..figures.critical_difference import plot_critical_difference
        from ..figures.dots import plot_accuracies
    except ImportError:
        print(f"{path.name} is not drawn: matplotlib is missing. Install it with: pip install 'hf_bml[plots]'")
        return
    if not plot_accuracies(rows, path, title):
        print(f"{path.name} is not drawn: no run has an accuracy.")
    if ranks is not None:
        plot_critical_difference(ranks, path.with_name(f"{path.stem}_ranks.png"), title)
