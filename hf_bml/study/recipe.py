"""Recipes: a flat YAML of model, data and training options, any of which the command line can override."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import torch
import yaml
from transformers import HfArgumentParser
from transformers.hf_argparser import string_to_bool

from ..ground.suggestion import did_you_mean
from ..models import ENCODERS, FUSIONS
from ..modulation.bundles import bundled_model_options, named_options
from ..processing import PROCESSORS
from ..training.training_args import DICT_FIELDS, BalancedTrainingArguments
from .recipe_file import check_recipe_file
from .tasks import TASKS, check_task_name, check_task_options

FROM_UNIMODAL = ("encoders", "models")


@dataclass
class TaskArguments:
    """What is trained: a task, or a checkpoint."""

    task: str = field(
        default="classification",
        metadata={"help": f"What the model predicts: {', '.join(TASKS)}. Model options depend on it."},
    )
    model_name_or_path: str | None = field(
        default=None,
        metadata={"help": "Start from this checkpoint (folder or Hub id) with its own config."},
    )
    from_unimodal: str | None = field(
        default=None,
        metadata={
            "help": "Train each modality alone first, by the same recipe, and take over the `encoders`, or the whole "
            "`models`: an ensemble, of which nothing more is trained (fusion: average_probabilities, average_logits)."
        },
    )

    def __post_init__(self) -> None:
        check_task_name(self.task)
        if self.from_unimodal not in (None, *FROM_UNIMODAL):
            raise ValueError(f"from_unimodal must be one of {', '.join(FROM_UNIMODAL)}, found {self.from_unimodal!r}.")
        parse_json_fields(self)


def model_fields() -> list[tuple[str, Any, Any]]:
    """The options of all tasks' configs, as `make_dataclass` takes them; different helps name their tasks."""
    found: dict[str, tuple[str, Any, Any]] = {}
    helps: dict[str, dict[str, list[str]]] = {}
    for task_name, task in TASKS.items():
        hints = get_type_hints(task.config_class, localns={"torch": torch})  # a name that PreTrainedConfig lacks
        for name, option in task.options.items():
            own = helps.setdefault(name, {})
            own.setdefault(option.metadata["help"], []).append(task_name)
            texts = [f"Of {', '.join(owners)}: {text}" if len(own) > 1 else text for text, owners in own.items()]
            is_mapping = dict in map(get_origin, get_args(hints[name]))
            hint = dict[str, Any] | str | None if is_mapping else hints[name]  # a command line gives it as JSON
            found[name] = name, hint, field(default=option.default, metadata={"help": " ".join(texts)})
    return list(found.values())


ModelArguments = make_dataclass(
    "ModelArguments",
    model_fields(),
    bases=(TaskArguments,),
    namespace={
        "__doc__": "What is trained: a task, the options of its config under their own names, or a checkpoint.",
        "__module__": __name__,
    },
)


@dataclass
class DataArguments:
    """What it is trained on."""

    dataset: str = field(
        default="digits",
        metadata={"help": "A dataset of hf_bml.data, or `package.module:function` that returns a DatasetDict."},
    )
    dataset_options: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Keywords of the dataset's load function, such as {data_dir: ...}."}
    )
    processors: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Processor config per modality, each with a `type` and its options."}
    )
    on_error: str = field(
        default="raise",
        metadata={"help": "What becomes of a file that cannot be used: raise; mask, absent; or skip, the sample out."},
    )
    dataset_num_proc: int | None = field(default=None, metadata={"help": "Processes that prepare the data."})
    stream_buffer_size: int = field(
        default=1000,
        metadata={
            "help": "Raw rows in memory, per process that loads data, that a streamed training split is shuffled in; "
            "0: the shards alone are shuffled."
        },
    )

    train_per_class: int | None = field(
        default=None,
        metadata={"help": "Train on at most so many rows of each class, drawn by the seed of the run."},
    )
    folds: int | None = field(
        default=None,
        metadata={
            "help": "Cut all rows anew into so many folds, along the data set's column `group` if it has one, else "
            "evenly by class: one is tested, the next one is validation."
        },
    )
    fold: int | None = field(
        default=None, metadata={"help": "The fold that is tested, from 0 (the default); hf-bml compare tests each."}
    )

    def __post_init__(self) -> None:
        parse_json_fields(self)
        if self.train_per_class is not None and self.train_per_class < 1:
            raise ValueError(f"train_per_class must be at least 1, found {self.train_per_class}.")
        if self.folds is not None and self.folds < 3:
            raise ValueError(f"folds must be at least 3 (training, validation and test), found {self.folds}.")
        if self.fold is not None and not 0 <= self.fold < (self.folds or 0):
            raise ValueError(f"fold must be in [0, folds), found {self.fold} with folds {self.folds}.")
        if self.stream_buffer_size < 0:
            raise ValueError(f"stream_buffer_size must be at least 0, found {self.stream_buffer_size}.")

    @property
    def is_streamed(self) -> bool:
        """Whether the data is asked to be read while training."""
        return bool((self.dataset_options or {}).get("streaming"))


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


BLOCKS = (ModelArguments, DataArguments, BalancedTrainingArguments)
RHYTHM = ("logging_strategy", "logging_steps", "eval_strategy", "save_strategy", "save_steps")  # None: not given
MOST_SAVES = 10  # of a training that does not say when it saves
OPTION_NAMES = [f.name for block in BLOCKS for f in fields(block) if f.init]


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


def parse_json_fields(arguments: Any) -> None:
    """Replaces JSON strings, as the command line gives them, by mappings, in all fields that hold one.

    Raises:
        ValueError: neither a mapping nor JSON of one.
    """
    hints = get_type_hints(type(arguments))
    for name in (name for name, hint in hints.items() if dict in map(get_origin, get_args(hint))):
        value = vars(arguments)[name]
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except json.JSONDecodeError as error:
                raise ValueError(f"--{name} must be a JSON mapping, found {value!r} ({error}).") from error
        if value is not None and not isinstance(value, Mapping):
            raise ValueError(f"{name} must be a mapping, found {value!r}.")
        setattr(arguments, name, value)


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
        path: of the file.
        extended_by: the files that led here, to find circles.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a mapping, a key twice, an unknown key (the closest valid one is named), or a recipe that
            extends itself.
    """
    path = Path(path)
    check_recipe_file(path, extended_by)
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
            raise ValueError(f"{path}: unknown key {key!r}.{did_you_mean(key, OPTION_NAMES)} See hf-bml train --help.")
    if base is None:
        return options
    return merged(read_recipe(path.parent / base, (*extended_by, path.resolve())), options)


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
    """Sets `options[path[0]][path[1]]... = value`, creating mappings on the way."""
    for key in path[:-1]:
        if options.get(key) is None:
            options[key] = {}
        if not isinstance(options[key], dict):
            raise ValueError(f"--{'.'.join(path)}: {key!r} is not a mapping but {options[key]!r}.")
        options = options[key]
    options[path[-1]] = value


def recipe_options(path: str | Path, arguments: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """A recipe's YAML with the dotted options of a command line, and that command line's other arguments.

    Raises:
        ValueError, FileNotFoundError: see `read_recipe`; a dotted option that does not exist or is not a mapping.
    """
    options = read_recipe(path)
    others, dotted = split_dotted(arguments)
    for nested, value in dotted:
        if nested[0] not in OPTION_NAMES:
            raise ValueError(f"unknown option --{'.'.join(nested)}.{did_you_mean(nested[0], OPTION_NAMES)}")
        set_nested(options, nested, value)
    return options, others


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
    options, others = recipe_options(path, arguments)
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
        option = unknown[0].split("=")[0].lstrip("-")
        hint = did_you_mean(option, OPTION_NAMES)
        raise ValueError(f"unknown option {unknown[0]!r}.{hint} See hf-bml train --help.")
    chosen = {**{name: vars(namespace)[name] for name in sorted(OPTION_NAMES)}, **(changes or {})}
    try:
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


def default_rhythm(chosen: Mapping[str, Any], given: Collection[str]) -> dict[str, Any]:
    """When a recipe logs, evaluates and saves that does not say so.

    All three after every epoch; in a training of more than ten epochs it saves ten times, so that a probe has a course
    to draw and the disk is not filled. A training of `max_steps` evaluates ten times, and logs and saves as the
    training arguments have it. With `load_best_model_at_end`, which the Trainer ties to `save_strategy`, the recipe
    must say when it evaluates and saves.

    Args:
        chosen: the options.
        given: which of RHYTHM the recipe gives.
    """
    has_epochs, keeps_best = chosen["max_steps"] <= 0, chosen["load_best_model_at_end"]
    rhythm: dict[str, Any] = {}
    if has_epochs and not {"logging_strategy", "logging_steps"} & set(given):
        rhythm["logging_strategy"] = "epoch"
    if has_epochs and not keeps_best and not {"save_strategy", "save_steps"} & set(given):
        is_short = chosen["num_train_epochs"] <= MOST_SAVES
        rhythm |= {"save_strategy": "epoch"} if is_short else {"save_steps": 1 / MOST_SAVES}
    if keeps_best or "eval_strategy" in given:
        return rhythm
    if chosen["eval_steps"] is not None:
        return rhythm | {"eval_strategy": "steps"}
    return rhythm | ({"eval_strategy": "epoch"} if has_epochs else {"eval_strategy": "steps", "eval_steps": 0.1})


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


def write_recipe(options: Mapping[str, Any], path: str | Path) -> None:
    """Writes options as a recipe's YAML."""
    Path(path).write_text(yaml.safe_dump(dict(options), sort_keys=False, allow_unicode=True), encoding="utf-8")
