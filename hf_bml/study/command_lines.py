"""The options that commands have beside a recipe's; imports nothing slow, so that their help comes at once."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from .errors import OneLineErrors

Parser = TypeVar("Parser", bound=argparse.ArgumentParser)
POINTERS = """\
Every key of a recipe is an option, too, and wins over the recipe: --learning_rate 1e-3. Keys inside a mapping take
dotted names: --modulations.opm.q_base 0.5, --modalities.visual.architecture resnet34.

  hf-bml options                  what a recipe can name: encoders, processors, modulations, data sets ...
  hf-bml options modulations opm  the options of one, with types, defaults and an example
  hf-bml options training         all options of the training; most are those of transformers.TrainingArguments,
                                  https://huggingface.co/docs/transformers/main_classes/trainer
  hf-bml options data model       what it is trained on, and what is trained

recipes/README.md explains recipes, recipes/REFERENCE.md has all options on one page."""


class HelpFormatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults that are something, and description and epilog as they are written."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return super()._get_help_string(action) if action.default else action.help


def series_parser(make: Callable[..., Parser], **options: Any) -> Parser:
    """The options of every command that trains recipes.

    Args:
        make: `recipe_parser`, whose parser also has the recipe's options; or `OneLineErrors`, for the help.
        options: as for `argparse.ArgumentParser`.
    """
    parser = make(epilog=POINTERS, formatter_class=HelpFormatter, allow_abbrev=False, **options)
    packaged = "YAML files, or names of packaged recipes (hf-bml recipes)."
    parser.add_argument("recipes", nargs="+", metavar="RECIPE", help=packaged)
    parser.add_argument(
        "--seeds",
        nargs="+",
        type=int,
        default=None,
        metavar="SEED",
        help="Train once per seed and summarise mean and spread.",
    )
    parser.add_argument("--compare", default="accuracy", help="Test metric of the paired differences.")
    return parser


def train_parser(make: Callable[..., Parser]) -> Parser:
    """The options of `hf-bml train`; `make` as for `series_parser`."""
    return series_parser(
        make,
        prog="hf-bml train",
        usage="hf-bml train RECIPE [RECIPE ...] [--seeds SEED ...] [--OPTION VALUE ...]",
        description="Trains each recipe (once per seed), tests it, and compares the recipes to the first one.",
    )


def recipes_come_first(found: str) -> str:
    """What to say of a recipe that stands behind an option."""
    return f"If {found} is a recipe, give it before the first option: RECIPE [RECIPE ...] --OPTION VALUE"


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
