"""Parsers that have the options of a recipe."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from transformers import HfArgumentParser

from . import command_lines
from .dotted_options import split_dotted
from .errors import OneLineErrors
from .recipe_blocks import BLOCKS


class RecipeParser(OneLineErrors, HfArgumentParser):
    """Reads dataclasses, and reports errors in one line."""

    def error(self, message: str) -> NoReturn:
        """Raises ValueError; of a recipe that an option took as its value, says so."""
        recipe = re.search(r"[\w./-]+\.ya?ml\b", message)
        super().error(f"{message.rstrip('.')}. {command_lines.recipes_come_first(recipe[0])}" if recipe else message)


def recipe_parser(**options: Any) -> RecipeParser:
    """A parser of the recipe's three blocks, which its help leaves to `hf-bml options`.

    Args:
        options: as for `argparse.ArgumentParser`.
    """
    parser = RecipeParser(BLOCKS, **options)
    for action in parser._actions:
        if action.dest != "help":
            action.help = argparse.SUPPRESS
    return parser


def series_options(parser: RecipeParser, arguments: Sequence[str]) -> argparse.Namespace:
    """What a command line says of the options that `series_parser` and the command have added to the recipe's."""
    return parser.parse_known_args(split_dotted(arguments)[0])[0]


def train_parser() -> RecipeParser:
    """The options of `hf-bml train`, and those of the recipe."""
    return command_lines.train_parser(recipe_parser)
