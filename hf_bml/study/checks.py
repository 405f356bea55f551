"""Validates a recipe before any training starts."""

from __future__ import annotations

import inspect
from typing import get_type_hints

from huggingface_hub.utils import validate_repo_id
from transformers.integrations import INTEGRATION_TO_CALLBACK, get_available_reporting_integrations

from ..data import check_options, dataset_function
from ..ground.suggestion import did_you_mean
from ..modulation import build_modulations
from ..processing import MultimodalProcessor
from ..training.needs import check_streamed_training
from .metric_checks import check_best_metric
from .model_checks import check_model
from .parts import check_start
from .recipe import Recipe
from .run_data import processor_configs
from .run_model import build_config, checkpoint_config, recipe_modalities

ENCODER_INPUTS = (  # an option of an encoder, and what its processor calls the same
    ("in_channels", "num_channels"),
    ("input_size", "input_size"),
    ("input_size", "output_size"),
    ("num_bins", "num_bins"),
    ("num_windows", "num_windows"),
)
UNLISTED_TRACKERS = ("azure_ml", "flyte")  # which transformers may not list, though they are installed
SGD_OPTIONS = {"momentum": float, "dampening": float, "weight_decay": float, "nesterov": str}


def check_recipe(recipe: Recipe) -> None:
    """Checks model, processors, dataset and training options without data, weights or a step.

    Raises:
        ValueError: naming what was expected and found.
    """
    check_start(recipe)
    check_model(recipe)
    modalities = recipe_modalities(recipe)
    check_processors(recipe)
    check_encoder_inputs(recipe)
    check_dataset_options(recipe)
    check_stream(recipe)
    check_best_metric(recipe, modalities)
    check_optimizer_options(recipe)
    check_trackers(recipe)
    if recipe.training.hub_model_id is not None:
        validate_repo_id(recipe.training.hub_model_id)


def check_processors(recipe: Recipe) -> None:
    """Builds the processors."""
    configs = processor_configs(recipe)
    if not configs:
        return
    try:
        MultimodalProcessor(configs, on_error=recipe.data.on_error)
    except (AttributeError, OSError, TypeError) as error:  # a missing tokenizer, an option of the wrong type
        raise ValueError(f"processors: {error}") from error


def check_encoder_inputs(recipe: Recipe) -> None:
    """Each encoder takes as many channels, windows or frequencies, or as large a feature, as its processor gives."""
    checkpoint = recipe.model.model_name_or_path
    config = build_config(recipe) if checkpoint is None else checkpoint_config(checkpoint)
    configs = processor_configs(recipe)
    transforms = MultimodalProcessor(configs).transforms if configs else {}
    for modality, encoder in config.modalities.items():
        sizes = transforms[modality].sizes if modality in transforms else {}
        for taken, given in ENCODER_INPUTS:
            expected, found = encoder.get(taken), sizes.get(given)
            if None not in (expected, found) and expected != found:
                raise ValueError(
                    f"modality {modality!r}: the encoder takes {taken}={expected}, but the processor gives "
                    f"{given}={found}. Change one of the two."
                )


def check_dataset_options(recipe: Recipe) -> None:
    """The dataset exists, and its function takes the options; nothing is loaded."""
    name, options = recipe.data.dataset, recipe.data.dataset_options or {}
    if not isinstance(name, str):
        raise ValueError(f"dataset must be a name, found {name!r}.")
    load = dataset_function(name)
    check_options(load, options, name)
    try:
        inspect.signature(load).bind(**options)
    except TypeError as error:
        raise ValueError(f"dataset_options of {name!r}: {error}.") from error
    try:
        hints = get_type_hints(load)
    except (AttributeError, NameError, TypeError):  # a dataset of the user's own may have any annotations
        return
    for option, value in options.items():
        expected = hints.get(option)
        accepted = (int, float) if expected is float else expected
        is_wrong_bool = isinstance(value, bool) and expected in (int, float)
        if expected in (bool, float, int, str) and (is_wrong_bool or not isinstance(value, accepted)):
            raise ValueError(f"dataset_options: {option} must be of type {expected.__name__}, found {value!r}.")


def check_stream(recipe: Recipe) -> None:
    """What a recipe asks of streamed data does not need its length, or several readings before the training."""
    if not recipe.data.is_streamed:
        return
    check_streamed_training(recipe.training, build_modulations(recipe.training.modulations))
    configs = processor_configs(recipe)
    if unfitted := MultimodalProcessor(configs).unfitted if configs else []:
        raise ValueError(
            f"processors: {unfitted} learn from the training split before the training, but it is streamed. Load the "
            "data without streaming, or start from a model that has learned them (model_name_or_path)."
        )


def check_trackers(recipe: Recipe) -> None:
    """The packages of `report_to` are installed; the Trainer would say so when the data is ready."""
    ready = {*get_available_reporting_integrations(), *UNLISTED_TRACKERS}
    missing = [name for name in recipe.training.report_to if name in INTEGRATION_TO_CALLBACK and name not in ready]
    if missing:
        raise ValueError(
            f"report_to: {missing[0]} is not installed. pip install {missing[0].replace('_', '-')}, or leave it out: "
            "report_to: none."
        )


def check_optimizer_options(recipe: Recipe) -> None:
    """`optim_args` has the form `key=value,key=value`; SGD's keys are known (transformers ignores others)."""
    text = recipe.training.optim_args
    if not text:
        return
    if not isinstance(text, str):
        raise ValueError(f"optim_args must be text such as momentum=0.9,nesterov=true, found {text!r}.")
    for part in text.replace(" ", "").split(","):
        key, equals, value = part.partition("=")
        if not key or not equals or not value or "=" in value:
            raise ValueError(f"optim_args must have the form key=value,key=value, found {text!r}.")
        if recipe.training.optim != "sgd":
            continue
        if key not in SGD_OPTIONS:
            hint = did_you_mean(key, SGD_OPTIONS)
            raise ValueError(f"optim_args: sgd has no option {key!r}.{hint} Known: {', '.join(SGD_OPTIONS)}.")
        try:
            SGD_OPTIONS[key](value)
        except ValueError as error:
            raise ValueError(f"optim_args: {key} must be a number, found {value!r}.") from error
