"""`hf-bml train RECIPE... [--seeds ...] [options]`; also `accelerate launch -m hf_bml.commands.train RECIPE ...`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..analysis.comparison import Row
from ..analysis.summary import median_after_warm_up, run_table
from ..study.checks import check_compared_metric, check_recipe, check_resume
from ..study.errors import BAD_INPUT, print_error
from ..study.parser import RecipeParser, quiet_libraries, train_parser
from ..study.recipe import Recipe, parse_recipe, split_dotted
from ..study.series import announce_and_run, check_series, end_processes, output_root, run_or_reuse, run_series
from ..training.checkpoint import AUTO, resume_request

SUMMARY_NAME = "summary"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0, or 2 with one line on stderr for bad input."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    quiet_libraries()
    parser = train_parser()
    try:
        others, _ = split_dotted(arguments)
        chosen, _ = parser.parse_known_args(others)
        run_all(plan(parser, chosen, arguments), chosen)
        end_processes()
    except (ValueError, OSError) as error:
        print_error("hf-bml train", error)
        return BAD_INPUT
    return 0


def plan(parser: RecipeParser, chosen: argparse.Namespace, arguments: Sequence[str]) -> list[tuple[Row, Recipe]]:
    """All runs with their rows, recipe by recipe and seed by seed, validated before the first one starts."""
    check_series(chosen)
    alone = len(chosen.recipes) == 1
    runs = []
    for path in chosen.recipes:
        base = parse_recipe(parser, path, arguments)
        row = Row(base.name)
        root = output_root(base, base.name) if alone else output_root(base) / base.name
        for seed in chosen.seeds or [None]:
            folder = root if seed is None else root / f"seed-{seed}"
            changes = {"output_dir": str(folder)} | ({} if seed is None else {"seed": seed})
            runs.append((row, parse_recipe(parser, path, arguments, changes)))
        try:
            check_recipe(runs[-1][1])
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    check_compared_metric(chosen.compare, runs[0][1])
    check_resume([recipe for _, recipe in runs])
    return runs


def run_all(runs: Sequence[tuple[Row, Recipe]], chosen: argparse.Namespace) -> None:
    """A single run is trained and reported; several are compared, and finished ones are not trained again; nor is a
    single one with `--resume_from_checkpoint auto`."""
    if len(runs) == 1:
        [(_, recipe)] = runs
        may_be_finished = resume_request(recipe.training.resume_from_checkpoint) == AUTO
        result = run_or_reuse(recipe) if may_be_finished else announce_and_run(recipe)
        if recipe.training.process_index == 0:
            report_run(recipe, result)
        return
    folder = Path(runs[0][1].training.output_dir)
    for _ in range((len(chosen.recipes) > 1) + (chosen.seeds is not None)):  # levels of folders below the summary
        folder = folder.parent
    run_series(runs, folder, SUMMARY_NAME, chosen.compare)


def report_run(recipe: Recipe, result: dict[str, Any]) -> None:
    """Prints one run's table."""
    print(f"\n{recipe.data.dataset}, {recipe.name}: test split\n")
    print(run_table(result["test"], result["final_ratios"]))
    epoch = median_after_warm_up(result["epoch_seconds"])
    times = f"{result['train_seconds']:.1f} s" + (f", {epoch:.2f} s an epoch" if epoch else "")
    print(f"\ntrained in {times}; everything is in {recipe.training.output_dir}")


if __name__ == "__main__":
    sys.exit(main())
