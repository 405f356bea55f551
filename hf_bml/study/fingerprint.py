"""What a run computes as one hash: equal for recipes that differ in spelling, defaults or reporting only.

It covers the model's whole config, every modulation's whole config, the dataset's and the processors' options with
their defaults, the training options, the number of processes and the version of hf_bml. It leaves out the seed, and it
knows the names of files, checkpoints and dataset functions, not their contents.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from importlib.metadata import version
from typing import Any

from ..data import dataset_function
from ..data.loading import FROM_COLUMNS
from ..data.location import DATA_VARIABLE
from ..hub.hidden_paths import WITHOUT_EFFECT
from ..modulation import build_modulations
from ..processing import PROCESSORS
from .recipe import Recipe
from .recipe_blocks import DataArguments, ModelArguments
from .run_data import processor_configs
from .run_model import build_config, recipe_task

# What `explicit` keeps although it is the Trainer's default; a run of an older version was hashed without it.
TRAINER_RHYTHM = {"logging_strategy": "steps", "logging_steps": 500, "save_strategy": "steps", "save_steps": 500}
LATER = ("class_weights", "label_mean", "label_std")  # options without which earlier versions hashed a model
LATER_OF_COLUMNS = {"numbers": False}  # the same, of from_columns


def fingerprint(recipe: Recipe) -> str:
    """The hash of what the recipe computes, 64 hexadecimal digits; the recipe must have passed `check_recipe`."""
    text = json.dumps(canonical_options(recipe), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def canonical_options(recipe: Recipe) -> dict[str, Any]:
    """What the fingerprint is made of, JSON-able but for values that YAML alone knows, such as dates."""
    elsewhere = {f.name for block in (ModelArguments, DataArguments) for f in fields(block)}
    elsewhere |= {"seed", "modulations", *WITHOUT_EFFECT}
    return {
        "versions": [version("hf_bml"), version("transformers")],  # transformers has the defaults of what is not given
        "processes": recipe.training.world_size,
        "mixed_precision": recipe.training.mixed_precision,  # that of `accelerate launch` too
        "model": model_options(recipe),
        "modulations": [
            [modulation.name, canonical(asdict(modulation.config))]  # a list, as their order counts
            for modulation in build_modulations(recipe.training.modulations)
        ],
        "dataset": [recipe.data.dataset, canonical(dataset_options(recipe.data))],
        **buffer_of_streams(recipe.data),
        **protocol(recipe.data),
        "data_folder": os.environ.get(DATA_VARIABLE) or None,
        "on_error": recipe.data.on_error,
        "processors": {
            name: [options["type"], canonical(with_defaults(PROCESSORS.find(options["type"]), options))]
            for name, options in sorted(processor_configs(recipe).items())
        },
        "training": canonical(
            {k: v for k, v in recipe.explicit.items() if k not in elsewhere and (k, v) not in TRAINER_RHYTHM.items()}
        ),
    }


def dataset_options(data: DataArguments) -> dict[str, Any]:
    """The options of the data set with their defaults, but later ones that have no effect."""
    options = with_defaults(dataset_function(data.dataset), data.dataset_options or {})
    later = LATER_OF_COLUMNS.items() if data.dataset == FROM_COLUMNS else ()
    return {name: value for name, value in options.items() if (name, value) not in later}


def buffer_of_streams(data: DataArguments) -> dict[str, int]:
    """The size of the shuffle buffer, if it may have an effect: a function of the user's own may return a stream."""
    is_default = data.stream_buffer_size == DataArguments().stream_buffer_size
    return {} if is_default and not data.is_streamed else {"stream_buffer_size": data.stream_buffer_size}


def protocol(data: DataArguments) -> dict[str, Any]:
    """How the splits are cut anew; nothing where they are those of the data set."""
    folds = {} if data.folds is None else {"folds": [data.folds, data.fold or 0]}
    return folds | ({} if data.train_per_class is None else {"train_per_class": data.train_per_class})


def model_options(recipe: Recipe) -> Any:
    """The checkpoint's name, or the config with its defaults filled in."""
    if recipe.model.model_name_or_path is not None:
        return recipe.model.model_name_or_path
    config = build_config(recipe)
    given = {name: vars(config)[name] for name in recipe_task(recipe).options}
    options = canonical({name: value for name, value in given.items() if value is not None or name not in LATER})
    start = {} if recipe.model.from_unimodal is None else {"from_unimodal": recipe.model.from_unimodal}
    return {**options, **start, "order": config.modality_order, "task": recipe.model.task}


def with_defaults(function: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options together with the function's defaults for those that are not given."""
    plain = (bool, int, float, str, list, tuple, type(None))
    parameters = inspect.signature(function).parameters.values()
    return {**{p.name: p.default for p in parameters if isinstance(p.default, plain)}, **options}


def canonical(value: Any) -> Any:
    """Keys sorted, tuples as lists, and whole floats as ints, so that 20 and 20.0 are the same."""
    if isinstance(value, Mapping):
        return {str(key): canonical(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, (list, tuple)):
        return [canonical(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
