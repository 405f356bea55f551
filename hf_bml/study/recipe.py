"""Recipes: a flat YAML of model, data and training options, any of which the command line can override."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from transformers import HfArgumentParser
from transformers.hf_argparser import string_to_bool

from ..ground.suggestion import did_you_mean
from ..models import ENCODERS, FUSIONS
from ..modulation.bundles import bundled_model_options
from ..processing import PROCESSORS
from ..training.training_args import DICT_FIELDS, BalancedTrainingArguments
from .command_lines import recipes_come_first
from .dotted_options import recipe_options, set_nested
from .recipe_blocks import BLOCKS, OPTION_NAMES, DataArguments, ModelArguments, TaskArguments
from .rhythm import RHYTHM, default_rhythm
from .tasks import TASKS, check_task_options


@dataclass
class Recipe:
    """A parsed recipe.

    Attributes:
        name: the YAML's stem.
        model, data, training: the parsed blocks.
        explicit: the options that differ from the defaults, and all of RHYTHM that is given, as YAML can hold them; a
            recipe again.
        parts: per modality the recipe that trains it alone, where the run starts or learns from such models.
    """

    name: str
    model: TaskArguments
    data: DataArguments
    training: BalancedTrainingArguments
    explicit: dict[str, Any]
    parts: dict[str, Recipe] = field(default_factory=dict)


def parse_recipe(
    parser: HfArgumentParser, path: str | Path, arguments: Sequence[str], changes: Mapping[str, Any] | None = None
) -> Recipe:
    """A recipe's YAML with the command line's overrides.

    Args:
        parser: made of BLOCKS; it may have further options, which are ignored here.
        path: the YAML.
        arguments: the command line.
        changes: options that win over both.

    Raises:
        ValueError, FileNotFoundError: see `recipe_options`, and the blocks' own validation.
    """
    options, dotted, others = recipe_options(path, arguments)
    defaults: dict[str, Any] = {}
    for action in parser._actions:  # the second action of a switch is its --no_ form
        is_text = isinstance(action.default, str)  # which argparse converts
        defaults.setdefault(action.dest, parser._get_value(action, action.default) if is_text else action.default)
    try:
        check_types(parser, options)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    parser.set_defaults(**{**dict.fromkeys(RHYTHM), **options})
    try:
        namespace, unknown = parser.parse_known_args(others)
    finally:
        parser.set_defaults(**{name: defaults[name] for name in [*RHYTHM, *options]})
    if unknown:
        if not unknown[0].startswith("-"):
            raise ValueError(f"unexpected argument {unknown[0]!r}. {recipes_come_first(unknown[0])}.")
        option = unknown[0].split("=")[0].lstrip("-")
        hint = did_you_mean(option, OPTION_NAMES)
        raise ValueError(f"unknown option {unknown[0]!r}.{hint} See hf-bml options.")
    chosen = {**{name: vars(namespace)[name] for name in sorted(OPTION_NAMES)}, **(changes or {})}
    try:
        for nested, value in dotted:
            if nested[0] not in (changes or {}):
                set_nested(chosen, nested, value)
        bundled = bundled_model_options(chosen["modulations"])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if chosen["model_name_or_path"] is None and chosen["task"] in TASKS:  # a checkpoint's model is as it is
        own = TASKS[chosen["task"]].options
        is_free = {name for name in own if name not in options and chosen[name] == defaults[name]}
        chosen.update({name: value for name, value in bundled.items() if name in is_free})
    given = {name: chosen[name] for name in RHYTHM if chosen[name] is not None}
    explicit = {name: value for name, value in chosen.items() if value != defaults[name] and name not in RHYTHM}
    explicit |= given  # also what is the Trainer's default, which is not that of a recipe
    chosen.update({**{name: defaults[name] for name in RHYTHM}, **default_rhythm(chosen, given), **given})
    try:
        blocks = [block(**{f.name: chosen[f.name] for f in fields(block) if f.init}) for block in BLOCKS]
        check_task_options(blocks[0].task, [*options, *explicit])
    except (AttributeError, TypeError) as error:  # TrainingArguments does not check every type
        raise ValueError(f"{path}: an option has the wrong type: {error}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    for block in blocks[:2]:  # a JSON string of the command line becomes the mapping it stands for
        explicit.update({name: value for name, value in vars(block).items() if name in explicit})
    explicit.update({name: vars(blocks[2])[name] for name in DICT_FIELDS if name in explicit})
    try:
        import_own_parts(blocks[0], blocks[1])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return Recipe(Path(path).stem, *blocks, explicit=explicit)


def import_own_parts(model: ModelArguments, data: DataArguments) -> None:
    """Imports the encoders, fusion and processors that a recipe names by `package.module:Name`, so that what its runs
    have saved can be loaded.

    Raises:
        ValueError: one cannot be imported, or is of another kind.
    """
    named = [(FUSIONS, model.fusion)]
    for registry, configs in ((ENCODERS, model.modalities), (PROCESSORS, data.processors)):
        named += [(registry, each.get("type")) for each in (configs or {}).values() if isinstance(each, Mapping)]
    for registry, name in named:
        if isinstance(name, str) and ":" in name:
            registry.find(name)


def check_types(parser: HfArgumentParser, options: Mapping[str, Any]) -> None:
    """A YAML's numbers are numbers and its switches are switches; argparse itself looks at text only.

    Raises:
        ValueError: naming the option, its type and the value.
    """
    for action in parser._actions:
        value = options.get(action.dest)
        if value is None or action.nargs in ("+", "*"):
            continue
        if action.type is float and not is_number(value):
            raise ValueError(f"{action.dest} must be a number, found {value!r}.")
        if action.type is int and not (is_number(value) and float(value).is_integer()):
            raise ValueError(f"{action.dest} must be a whole number, found {value!r}.")
        if action.type is string_to_bool and not isinstance(value, (bool, str)):
            raise ValueError(f"{action.dest} must be true or false, found {value!r}.")


def is_number(value: Any) -> bool:
    """Whether a value is a number, or text that reads as one."""
    if isinstance(value, str):
        try:
            float(value)
        except ValueError:
            return False
        return True
    return isinstance(value, (int, float)) and not isinstance(value, bool)
