"""The command lines that several commands share."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from transformers import HfArgumentParser

from ..modulation import BUNDLES, MODULATIONS, expanded
from .dotted_options import split_dotted
from .errors import OneLineErrors
from .recipe_blocks import BLOCKS


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
    parser.add_argument("recipes", nargs="+", metavar="RECIPE", help="YAML files, or names of packaged recipes.")
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=None, help="Train once per seed and summarise mean and spread."
    )
    parser.add_argument("--compare", default="accuracy", help="Test metric of the paired differences.")
    return parser


def series_options(parser: RecipeParser, arguments: Sequence[str]) -> argparse.Namespace:
    """What a command line says of the options that `series_parser` and the command have added to the recipe's."""
    return parser.parse_known_args(split_dotted(arguments)[0])[0]


def run_parser(**options: Any) -> OneLineErrors:
    """The options of the commands that look at a finished run.

    Args:
        options: as for `argparse.ArgumentParser`.
    """
    parser = OneLineErrors(**options)
    parser.add_argument("run_dir", type=Path, help="folder that hf-bml train wrote")
    parser.add_argument("--split", default="test", help="train, validation or test (default: test)")
    return parser


def card_parser(**options: str) -> OneLineErrors:
    """The options of the commands that write a card.

    Args:
        options: as for `argparse.ArgumentParser`.
    """
    parser = OneLineErrors(allow_abbrev=False, **options)
    parser.add_argument(
        "run_dir", type=Path, help="folder of a run that hf-bml train wrote, or one of its checkpoints"
    )
    parser.add_argument("--name", help="of the model (default: that of --repo-id, or the folder's)")
    parser.add_argument("--license", help="of the weights, an id that the Hub knows, such as apache-2.0")
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
    lines.append("Bundles, which stand for several modulations with options:")
    for name, bundle in BUNDLES.items():
        lines.append(f"  --modulations {name}")
        lines.append(f"                        {bundle.help} {json.dumps(expanded(name))}")
    return "\n".join(lines)
