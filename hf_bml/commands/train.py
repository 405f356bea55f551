"""`hf-bml train RECIPE... [--seeds ...] [options]`; also `accelerate launch -m hf_bml.commands.train RECIPE ...`."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list
from transformers import HfArgumentParser
from transformers.utils.logging import disable_progress_bar

from ..analysis.summary import run_table
from ..modulation import MODULATIONS
from .comparison import SUMMARY_NAME, results_by_recipe, write_results, write_table
from .errors import BAD_INPUT, OneLineErrors, print_error
from .recipe import BLOCKS, Recipe, parse_recipe, split_dotted


class RecipeParser(OneLineErrors, HfArgumentParser):
    """Reads dataclasses, and reports errors in one line."""


def build_parser() -> RecipeParser:
    """The options of the recipe's three blocks, and those of the command itself."""
    parser = RecipeParser(
        BLOCKS,
        prog="hf-bml train",
        usage="hf-bml train RECIPE [RECIPE ...] [--seeds SEED ...] [--OPTION VALUE ...]",
        description="Trains each recipe (once per seed), tests it, and compares the recipes to the first one.",
        epilog=nested_options(),
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    for action in parser._actions:
        action.help = HELP.get(action.dest, action.help)
    parser.add_argument("recipes", nargs="+", metavar="RECIPE", help="YAML files; see recipes/README.md.")
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=None, help="Train once per seed and summarise mean and spread."
    )
    parser.add_argument(
        "--compare", default="accuracy", help="Test metric of the paired difference to the first recipe."
    )
    return parser


HELP = {  # where the text of transformers does not say what this command does
    "output_dir": "Folder of the run; runs/DATASET/RECIPE if not given.",
    "optim_args": "Options of the optimizer as key=value,key=value, such as momentum=0.9 for sgd.",
    "resume_from_checkpoint": "`last` for the newest checkpoint in output_dir, or the folder of one.",
}


class HelpFormatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults, and the epilog as it is written."""


def nested_options() -> str:
    """The options inside `--modulations`, with their help and defaults."""
    lines = ["Options inside a mapping take dotted names:"]
    for name, modulation in MODULATIONS.items():
        for option in fields(modulation.config_class):
            lines.append(f"  --modulations.{name}.{option.name}")
            lines.append(f"                        {option.metadata['help']} (default: {option.default})")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0, or 2 with one line on stderr for bad input."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    quiet_libraries()
    parser = build_parser()
    try:
        others, _ = split_dotted(arguments)
        chosen, _ = parser.parse_known_args(others)
        recipes = plan(parser, chosen, arguments)
        run_all(recipes, chosen)
    except (ValueError, FileNotFoundError) as error:
        print_error("hf-bml train", error)
        return BAD_INPUT
    return 0


def quiet_libraries() -> None:
    """No bars for writing and loading weights, no word about pinned memory where there is no accelerator."""
    disable_progress_bar()
    warnings.filterwarnings("ignore", message=".*pin_memory.*")


def plan(parser: HfArgumentParser, chosen: argparse.Namespace, arguments: Sequence[str]) -> list[Recipe]:
    """All runs, recipe by recipe and seed by seed, validated before the first one starts."""
    from .assembly import recipe_modalities
    from .checks import check_compared_metric, check_recipe, check_resume

    names = [Path(path).stem for path in chosen.recipes]
    if len(set(names)) != len(names):
        raise ValueError(f"recipes need different file names, found {names}.")
    if chosen.seeds is not None and len(set(chosen.seeds)) != len(chosen.seeds):
        raise ValueError(f"--seeds must differ, found {chosen.seeds}.")
    runs = []
    for path in chosen.recipes:
        base = parse_recipe(parser, path, arguments)
        root = Path(str(base.explicit.get("output_dir", default_output_dir(base, alone=len(names) == 1))))
        root = root if len(names) == 1 else root / base.name
        for seed in chosen.seeds or [None]:
            folder = root if seed is None else root / f"seed-{seed}"
            extra = [f"--output_dir={folder}"] + ([] if seed is None else [f"--seed={seed}"])
            runs.append(parse_recipe(parser, path, [*arguments, *extra]))
        try:
            check_recipe(runs[-1])
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    check_compared_metric(chosen.compare, recipe_modalities(runs[0]))
    check_resume(runs)
    return runs


def default_output_dir(recipe: Recipe, alone: bool) -> Path:
    """`runs/<dataset>`, and the name of the recipe below it if it is alone."""
    root = Path("runs") / str(recipe.data.dataset).replace(":", ".")
    return root / recipe.name if alone else root


def run_all(recipes: Sequence[Recipe], chosen: argparse.Namespace) -> None:
    """Runs the recipes one after the other; the main process reports, and keeps what is finished up to date."""
    results: list[tuple[Recipe, dict[str, Any]]] = []
    is_main = recipes[0].training.process_index == 0
    levels = (len(chosen.recipes) > 1) + (chosen.seeds is not None)  # of folders below the summary's
    folder = Path(recipes[0].training.output_dir)
    for _ in range(levels):
        folder = folder.parent
    for recipe in recipes:
        results.append((recipe, run_or_reuse(recipe, reuse=len(recipes) > 1)))
        if is_main and len(recipes) > 1:
            write_results(results_by_recipe(results), folder)
        if len(results) == 1:
            check_compared(results, chosen.compare)
    if not is_main:
        return
    if len(results) == 1:
        report_run(*results[0])
        return
    table = write_table(results_by_recipe(results), folder, chosen.compare)
    print(f"\n{table}\n\nwritten to {folder / SUMMARY_NAME}.md and .json")


def run_or_reuse(recipe: Recipe, reuse: bool) -> dict[str, Any]:
    """Runs a recipe; among several, a finished run with the same options is not trained again."""
    from .experiment import finished_result, run

    finished = [finished_result(recipe) if reuse else None]
    if recipe.training.world_size > 1:
        broadcast_object_list(finished)  # the main process decides for all
    is_main = recipe.training.process_index == 0
    if finished[0] is not None:
        if is_main:
            print(f"{recipe.training.output_dir}: finished before with the same options, not trained again")
        return finished[0]
    if is_main:
        print(f"{recipe.training.output_dir}: training", flush=True)
    return run(recipe)


def check_compared(results: Sequence[tuple[Recipe, dict[str, Any]]], compare: str) -> None:
    """The first run yields the metric of `--compare` (`f1_binary` depends on the data)."""
    from .checks import check_metric

    [runs] = results_by_recipe(results).values()
    check_metric("--compare", compare, list(runs[0]))


def report_run(recipe: Recipe, result: dict[str, Any]) -> None:
    """Prints one run's table."""
    print(f"\n{recipe.data.dataset}, {recipe.name}: test split\n")
    print(run_table(result["test"], result["final_ratios"]))
    print(f"\ntrained in {result['train_seconds']:.1f} s; everything is in {recipe.training.output_dir}")


if __name__ == "__main__":
    sys.exit(main())
