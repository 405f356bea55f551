"""The command line of the commands that train recipes."""

from __future__ import annotations

import argparse
import warnings
from dataclasses import fields
from typing import Any

from transformers import HfArgumentParser
from transformers.utils.logging import disable_progress_bar

from ..modulation import MODULATIONS
from .errors import OneLineErrors
from .recipe import BLOCKS


class RecipeParser(OneLineErrors, HfArgumentParser):
    """Reads dataclasses, and reports errors in one line."""


class HelpFormatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults, and the epilog as it is written."""


def series_parser(**options: Any) -> RecipeParser:
    """The options of the recipe's three blocks, and those of every command that trains several recipes.

    Args:
        options: as for `argparse.ArgumentParser`.
    """
    parser = RecipeParser(
        BLOCKS, epilog=nested_options(), formatter_class=HelpFormatter, allow_abbrev=False, **options
    )
    for action in parser._actions:
        action.help = HELP.get(action.dest, action.help)
    parser.add_argument("recipes", nargs="+", metavar="RECIPE", help="YAML files; see recipes/README.md.")
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=None, help="Train once per seed and summarise mean and spread."
    )
    parser.add_argument("--compare", default="accuracy", help="Test metric of the paired differences.")
    return parser


def train_parser() -> RecipeParser:
    """The options of `hf-bml train`, and those of the recipe."""
    return series_parser(
        prog="hf-bml train",
        usage="hf-bml train RECIPE [RECIPE ...] [--seeds SEED ...] [--OPTION VALUE ...]",
        description="Trains each recipe (once per seed), tests it, and compares the recipes to the first one.",
    )


HELP = {  # where the text of transformers does not say what these commands do
    "eval_strategy": "When to evaluate: no, steps or epoch. If not given: every eval_steps if there are any, else ten "
    "times in a training of max_steps, else every epoch; %(default)s with load_best_model_at_end.",
    "logging_steps": "Log every so many steps, or such a part of the training if below 1. With the default, a shorter "
    "training than 10,000 steps logs 20 times.",
    "output_dir": "Folder of the run; runs/DATASET/RECIPE if not given.",
    "optim_args": "Options of the optimizer as key=value,key=value, such as momentum=0.9 for sgd.",
    "resume_from_checkpoint": "`auto` for the newest checkpoint in output_dir, or from scratch; `last`: "
    "there must be one; or the folder of one.",
}


def nested_options() -> str:
    """The options inside `--modulations`, with their help and defaults."""
    lines = ["Options inside a mapping take dotted names:"]
    for name, modulation in MODULATIONS.items():
        for option in fields(modulation.config_class):
            lines.append(f"  --modulations.{name}.{option.name}")
            lines.append(f"                        {option.metadata['help']} (default: {option.default})")
    return "\n".join(lines)


def quiet_libraries() -> None:
    """Hides progress bars for weights, and the warning about pinned memory without an accelerator."""
    disable_progress_bar()
    warnings.filterwarnings("ignore", message=".*pin_memory.*")
