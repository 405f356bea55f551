"""`hf-bml train RECIPE... [--seeds ...] [options]`; also `accelerate launch -m hf_bml.commands.train RECIPE ...`."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from transformers import HfArgumentParser
from transformers.utils.logging import disable_progress_bar

from ..analysis.summary import recipe_table, run_table
from ..modulation import MODULATIONS
from .recipe import BLOCKS, Recipe, parse_recipe, split_dotted

SUMMARY_NAME = "summary"


def build_parser() -> HfArgumentParser:
    """The options of the recipe's three blocks, and those of the command itself."""
    parser = HfArgumentParser(
        BLOCKS,
        prog="hf-bml train",
        usage="hf-bml train RECIPE [RECIPE ...] [--seeds SEED ...] [--OPTION VALUE ...]",
        description="Trains each recipe (once per seed), tests it, and compares the recipes to the first one.",
        epilog=nested_options(),
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("recipes", nargs="+", metavar="RECIPE", help="YAML files; see recipes/README.md.")
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=None, help="Train once per seed and summarise mean and spread."
    )
    parser.add_argument(
        "--compare", default="accuracy", help="Test metric of the paired difference to the first recipe."
    )
    return parser


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
        results = [(recipe, run_or_reuse(recipe, reuse=len(recipes) > 1)) for recipe in recipes]
    except (ValueError, FileNotFoundError) as error:
        print(f"hf-bml train: {error}", file=sys.stderr)
        return 2
    if recipes[0].training.process_index == 0:
        report(results, chosen)
    return 0


def quiet_libraries() -> None:
    """No bars for writing and loading weights, no word about pinned memory where there is no accelerator."""
    disable_progress_bar()
    warnings.filterwarnings("ignore", message=".*pin_memory.*")


def plan(parser: HfArgumentParser, chosen: argparse.Namespace, arguments: Sequence[str]) -> list[Recipe]:
    """All runs, recipe by recipe and seed by seed, validated before the first one starts."""
    names = [Path(path).stem for path in chosen.recipes]
    if len(set(names)) != len(names):
        raise ValueError(f"recipes need different file names, found {names}.")
    runs = []
    for path in chosen.recipes:
        base = parse_recipe(parser, path, arguments)
        root = Path(base.explicit.get("output_dir", default_output_dir(base, alone=len(names) == 1)))
        root = root if len(names) == 1 else root / base.name
        for seed in chosen.seeds or [None]:
            folder = root if seed is None else root / f"seed-{seed}"
            extra = ["--output_dir", str(folder)] + ([] if seed is None else ["--seed", str(seed)])
            runs.append(parse_recipe(parser, path, [*arguments, *extra]))
    return runs


def default_output_dir(recipe: Recipe, alone: bool) -> Path:
    """`runs/<dataset>`, and the name of the recipe below it if it is alone."""
    root = Path("runs") / recipe.data.dataset.replace(":", ".")
    return root / recipe.name if alone else root


def run_or_reuse(recipe: Recipe, reuse: bool) -> dict[str, Any]:
    """Runs a recipe; among several, a finished run with the same options is not trained again."""
    from .experiment import CONFIG_NAME, METRICS_NAME, run
    from .recipe import read_recipe

    folder = Path(recipe.training.output_dir)
    if reuse and (folder / METRICS_NAME).is_file() and read_recipe(folder / CONFIG_NAME) == recipe.explicit:
        print(f"{folder}: finished before with the same options, not trained again")
        return json.loads((folder / METRICS_NAME).read_text(encoding="utf-8"))
    print(f"{folder}: training")
    return run(recipe)


def report(results: Sequence[tuple[Recipe, dict[str, Any]]], chosen: argparse.Namespace) -> None:
    """Prints one run's table, or the comparison of several, which is also written as Markdown and JSON."""
    if len(results) == 1:
        recipe, result = results[0]
        print(f"\n{recipe.data.dataset}, {recipe.name}: test split\n")
        print(run_table(result["test"], result["final_ratios"]))
        print(f"\ntrained in {result['train_seconds']:.1f} s; everything is in {recipe.training.output_dir}")
        return
    by_recipe: dict[str, list[dict[str, float]]] = {}
    for recipe, result in results:
        ratios = {f"ratio_{modality}": value for modality, value in result["final_ratios"].items()}
        by_recipe.setdefault(recipe.name, []).append(
            {**result["test"], **ratios, "validation_accuracy": result["validation"]["accuracy"]}
        )
    columns = shown_columns(by_recipe)
    table = recipe_table(by_recipe, columns, chosen.compare)
    folder = Path(results[0][0].training.output_dir).parents[int(chosen.seeds is not None) + (len(by_recipe) > 1) - 1]
    (folder / f"{SUMMARY_NAME}.md").write_text(table + "\n", encoding="utf-8")
    (folder / f"{SUMMARY_NAME}.json").write_text(json.dumps(by_recipe, indent=2) + "\n", encoding="utf-8")
    print(f"\n{table}\n\nwritten to {folder / SUMMARY_NAME}.md and .json")


def shown_columns(by_recipe: dict[str, list[dict[str, float]]]) -> list[str]:
    """The metrics of a comparison: accuracies, mAP, F1 and ratios, in the order in which they first appear."""
    names: dict[str, None] = {}
    for runs in by_recipe.values():
        names.update(dict.fromkeys(runs[0]))
    hidden = ("loss", "mean_average_precision_classes", "epoch")
    return ["validation_accuracy", *[name for name in names if name not in (*hidden, "validation_accuracy")]]


if __name__ == "__main__":
    sys.exit(main())
