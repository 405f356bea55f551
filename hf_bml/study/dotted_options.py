"""The options of a command line that reach into mappings, such as `--modulations.opm.q_base`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from ..ground.suggestion import did_you_mean
from ..modulation.bundles import named_options
from .recipe_blocks import OPTION_NAMES, read_json
from .recipe_yaml import RecipeLoader, read_recipe


def split_dotted(arguments: Sequence[str]) -> tuple[list[str], list[tuple[list[str], Any]]]:
    """Takes `--modulations.opm.q_base 0.8` and `--modulations.opm.q_base=0.8` out of a command line.

    Returns:
        the other arguments, and the dotted ones as (path, value read as YAML). Only the option's own name may be
        written with `-` for `_`; the keys inside a mapping are taken as they are.

    Raises:
        ValueError: no value, or one that is not YAML.
    """
    others: list[str] = []
    dotted: list[tuple[list[str], Any]] = []
    remaining = iter(arguments)
    for argument in remaining:
        name, equals, value = argument.partition("=")
        if not (name.startswith("--") and "." in name):
            others.append(argument)
            continue
        if not equals:
            value = next(remaining, None)
            if value is None:
                raise ValueError(f"{argument} needs a value.")
        first, *rest = name[2:].split(".")
        try:
            dotted.append(([first.replace("-", "_"), *rest], yaml.load(value, Loader=RecipeLoader)))
        except (yaml.YAMLError, ValueError) as error:
            raise ValueError(f"{name}: {value!r} is not YAML: {error}") from error
    return others, dotted


def set_nested(options: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Sets `options[path[0]][path[1]]... = value`, creating mappings on the way and reading one that is JSON, or names
    of modulations.

    Raises:
        ValueError: what the path leads through is not a mapping.
    """
    whole = options.get(path[0])
    if path[0] == "modulations" and isinstance(whole, str):
        options[path[0]] = named_options(whole)
    elif isinstance(whole, str) and whole.startswith("{"):
        options[path[0]] = read_json(path[0], whole)
    for key in path[:-1]:
        if options.get(key) is None:
            options[key] = {}
        if not isinstance(options[key], dict):
            raise ValueError(f"--{'.'.join(path)}: {key!r} is not a mapping but {options[key]!r}.")
        options = options[key]
    options[path[-1]] = value


def recipe_options(
    path: str | Path, arguments: Sequence[str]
) -> tuple[dict[str, Any], list[tuple[list[str], Any]], list[str]]:
    """A recipe's YAML with the dotted options of a command line, these options, and the other arguments.

    Those win over a whole mapping wherever that stands: set them again on one that the other arguments give.

    Raises:
        ValueError, FileNotFoundError: see `read_recipe`; a dotted option that does not exist or is not a mapping.
    """
    options = read_recipe(path)
    others, dotted = split_dotted(arguments)
    for nested, value in dotted:
        if nested[0] not in OPTION_NAMES:
            raise ValueError(f"unknown option --{'.'.join(nested)}.{did_you_mean(nested[0], OPTION_NAMES)}")
        set_nested(options, nested, value)
    return options, dotted, others
