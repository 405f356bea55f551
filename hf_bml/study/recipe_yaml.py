"""The YAML of recipes: read safely, extended by others, written."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ..ground.suggestion import did_you_mean
from ..modulation.bundles import named_options
from .recipe_blocks import OPTION_NAMES
from .recipe_file import find_recipe


class RecipeLoader(yaml.SafeLoader):
    """Safe YAML that also reads `1e-2` as a number and refuses a key that is given twice."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        """Checks the keys as they are written, before `<<` merges others in."""
        node = super().compose_mapping_node(anchor)
        keys = [(key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = {value for tag, value in keys if keys.count((tag, value)) > 1 and tag != "tag:yaml.org,2002:merge"}
        if twice:
            raise ValueError(f"the keys {sorted(twice)} are given twice in one mapping ({node.start_mark}).")
        return node


RecipeLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


EXTENDS = "extends"


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes`: mappings are merged at every level, other values replaced, and None removes a key.

    A mapping with another `type` is of another kind and replaces the base's as a whole.

    Example:
        >>> merged({"fusion": "sum", "modalities": {"audio": {"size": 1}, "text": {}}}, {"modalities": {"text": None}})
        {'fusion': 'sum', 'modalities': {'audio': {'size': 1}}}
    """
    result = dict(base)
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(old := result.get(key), Mapping) and same_type(old, value):
            result[key] = merged(old, value)
        else:
            result[key] = value
    return result


def same_type(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether two mappings of options are of one kind, as far as they say."""
    return new.get("type", old.get("type")) == old.get("type")


def read_recipe(path: str | Path, extended_by: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Reads a recipe's YAML, and the one that it `extends` (a path relative to its own), merged as in `merged`.

    Args:
        path: of the file, or the name of a packaged recipe, see `find_recipe`.
        extended_by: the files that led here, to find circles.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a mapping, a key twice, an unknown key (the closest valid one is named), or a recipe that
            extends itself.
    """
    path = find_recipe(path, extended_by)
    if path.resolve() in extended_by:
        raise ValueError(f"{path} extends itself, by way of {', '.join(each.name for each in extended_by)}.")
    try:
        options = yaml.load(path.read_text(encoding="utf-8"), Loader=RecipeLoader)
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    if not isinstance(options, dict):
        raise ValueError(f"{path}: expected a mapping of options, found {type(options).__name__}.")
    if isinstance(options.get("modulations"), str):  # a mapping can be merged with another recipe's
        options["modulations"] = named_options(options["modulations"])
    base = options.pop(EXTENDS, None)
    if not isinstance(base, str | None):
        raise ValueError(f"{path}: extends must be the path of one recipe, found {base!r}.")
    for key in options:
        if key not in OPTION_NAMES:
            raise ValueError(f"{path}: unknown key {key!r}.{did_you_mean(key, OPTION_NAMES)} See hf-bml options.")
    if base is None:
        return options
    return merged(read_recipe(base, (*extended_by, path.resolve())), options)


def write_recipe(options: Mapping[str, Any], path: str | Path) -> None:
    """Writes options as a recipe's YAML."""
    Path(path).write_text(yaml.safe_dump(dict(options), sort_keys=False, allow_unicode=True), encoding="utf-8")


def standalone_text(recipe: str | Path) -> str:
    """A recipe as YAML that extends nothing: as it is written if it extends nothing anyway, else all options, and the
    comments of its head.

    Raises:
        FileNotFoundError, ValueError: see `read_recipe`.
    """
    options = read_recipe(recipe)
    text = find_recipe(recipe).read_text(encoding="utf-8")
    if EXTENDS not in yaml.load(text, Loader=RecipeLoader):
        return text
    head = itertools.takewhile(lambda line: line.startswith("#"), text.splitlines())
    body = yaml.safe_dump(options, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)
    return "\n".join([*head, body])
