"""The `hf-bml` command; imports nothing slow before it knows that the command and its recipes exist."""

from __future__ import annotations

import importlib
import itertools
import os
import sys
from collections.abc import Sequence

from . import __version__
from .ground.suggestion import did_you_mean
from .study.errors import BAD_INPUT, print_error
from .study.recipe_file import find_recipe

COMMANDS = {
    "init": "look at data of your own and write a recipe that trains on it",
    "recipes": "list the packaged recipes, show one, copy one to change it",
    "train": "train recipes, over several seeds if asked, and test them",
    "compare": "train methods on recipes, and write one table, CSV and picture",
    "evaluate": "evaluate a run, a checkpoint or a model of the Hub, on its own or on other data",
    "probe": "linear probe of every encoder of a run at every saved checkpoint",
    "missing": "accuracy of a run's model when modalities are missing at random",
    "robustness": "accuracy and calibration of runs' models with noisy and missing modalities",
    "analyse": "accuracy per class, calibration, Shapley values and t-SNE of a run's model",
    "sensitivity": "train a recipe with every combination of some options' values",
    "report": "show finished runs side by side in one HTML page",
    "card": "write the model card of a run",
    "push": "push a run to the Hub, with its card",
    "options": "list what a recipe can name: encoders, processors, modulations, data sets ...; and options of each",
}
TAKE_RECIPES = {"train", "compare", "sensitivity"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `hf-bml COMMAND ...`; each command is the module of that name in `hf_bml.commands`."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: hf-bml COMMAND ...\n\ncommands (each has its own --help):")
        for name, text in COMMANDS.items():
            print(f"  {name:12} {text}")
        return 0
    if arguments[0] in ("-V", "--version"):
        print(__version__)
        return 0
    if arguments[0] not in COMMANDS:
        hint = did_you_mean(arguments[0], COMMANDS)
        print(f"hf-bml: unknown command {arguments[0]!r}.{hint} Known: {', '.join(COMMANDS)}.", file=sys.stderr)
        return BAD_INPUT
    if arguments[0] in TAKE_RECIPES and not {"-h", "--help"} & set(arguments):
        try:
            for recipe in itertools.takewhile(lambda argument: not argument.startswith("-"), arguments[1:]):
                find_recipe(recipe)
        except FileNotFoundError as error:
            print_error(f"hf-bml {arguments[0]}", error)
            return BAD_INPUT
    if os.getcwd() not in sys.path:  # as with `python -m`, for `dataset: my_module:load`; last, so it shadows nothing
        sys.path.append(os.getcwd())
    return importlib.import_module(f".commands.{arguments[0]}", __package__).main(arguments[1:])
