"""Validates a recipe before any training starts."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import torch
from huggingface_hub.utils import validate_repo_id

from ..data import check_options, dataset_function
from ..ground.suggestion import did_you_mean
from ..ground.task import Task
from ..metrics.question_answering import TYPE_PREFIX, type_metric_names
from ..models import INTERACTIONS
from ..models.encoders.build import encoder_class
from ..models.face import ModelFace
from ..models.interaction import Interaction
from ..models.pretrained import MultimodalPreTrainedModel
from ..modulation import ModulationStack, build_modulations
from ..processing import MultimodalProcessor
from ..training.checkpoint import AUTO, LAST, no_checkpoint, resume_request
from ..training.checkpoint import resume_point as find_resume_point
from ..training.learning_rate import parameter_multipliers
from ..training.needs import check_head, check_streamed_training
from .assembly import (
    build_config,
    check_checkpoint_task,
    checkpoint_config,
    processor_configs,
    recipe_modalities,
    recipe_task,
)
from .fingerprint import fingerprint
from .json_file import read_json
from .parts import check_start
from .recipe import Recipe

METRICS_NAME = "metrics.json"
TRAINING_NAME = "training.json"
ENCODER_INPUTS = (  # an option of an encoder, and what its processor calls the same
    ("in_channels", "num_channels"),
    ("input_size", "input_size"),
    ("input_size", "output_size"),
    ("num_bins", "num_bins"),
    ("num_windows", "num_windows"),
)
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
    if recipe.training.hub_model_id is not None:
        validate_repo_id(recipe.training.hub_model_id)


def check_model(recipe: Recipe) -> None:
    """Builds the model without memory and shows it to the modulations.

    Of a checkpoint, or of an encoder whose config lies on the Hub, only the options are checked.
    """
    checkpoint = recipe.model.model_name_or_path
    if checkpoint is not None:
        check_checkpoint_task(recipe)
        if Path(checkpoint).is_dir() and not any(Path(checkpoint).glob("*.safetensors")):
            raise ValueError(f"model_name_or_path {checkpoint!r} holds no *.safetensors file, so no weights.")
        check_checkpoint_options(recipe)
        return
    for modality, options in (recipe.model.modalities or {}).items():
        if not isinstance(options, Mapping):
            raise ValueError(f"modalities: {modality} must be a mapping with a `type`, found {options!r}.")
    try:
        config = build_config(recipe)
        remote = [name for name, options in config.modalities.items() if on_hub(options)]
        interaction = INTERACTIONS.get(recipe.model.interaction, Interaction)
        for name in remote:
            encoder_class(name, config.modalities[name]["type"], interaction.staged)
        if remote:  # a stand-in has no stages or tokens that an interaction could join
            stand_in = {"type": "sequence", "input_size": 1, "hidden_size": 4, "num_heads": 1}
            local = {"modalities": {**config.modalities, **dict.fromkeys(remote, stand_in)}}
            alone = [name for name in recipe_task(recipe).options if name.startswith("interaction")]
            config = build_config(recipe, **local, **dict.fromkeys(alone))
        with torch.device("meta"):
            model = recipe_task(recipe).model_class(config)
        if not remote:
            check_modulations(recipe, model)
    except (AttributeError, RuntimeError, TypeError) as error:  # what libraries raise for options they do not know
        if "meta" not in str(error):  # some timm model that cannot be built without memory
            raise ValueError(f"the model cannot be built: {error}") from error


def check_checkpoint_options(recipe: Recipe) -> None:
    """Raises ValueError if the recipe gives a model option that the checkpoint it starts from has otherwise."""
    saved = checkpoint_config(recipe.model.model_name_or_path)
    asked = build_config(recipe, modalities=recipe.model.modalities or saved.modalities)
    pairs = {
        name: (vars(asked)[name], vars(saved)[name])
        for name in recipe_task(recipe).options
        if name in recipe.explicit and name != "modalities"
    }
    for modality, options in (recipe.model.modalities or {}).items():
        for name in options:
            if name not in ("pretrained", "config"):  # what the checkpoint has in full
                own = (config.modalities[modality].get(name) for config in (asked, saved))
                pairs[f"modalities.{modality}.{name}"] = tuple(own)
    for name, (wanted, found) in pairs.items():
        if wanted != found:
            raise ValueError(
                f"{name}: the recipe asks for {wanted!r}, but the checkpoint {recipe.model.model_name_or_path!r} was "
                f"built with {found!r}. Leave the option out, or train a new model without model_name_or_path."
            )


@dataclass
class RunOnMeta:
    """The [`Run`](../modulation/step.py) of a model without memory, which computes nothing."""

    model: MultimodalPreTrainedModel
    seed: int

    @property
    def face(self) -> ModelFace:
        """What the model declares: it is its own."""
        return self.model

    @property
    def task(self) -> Task:
        """What the model's predictions are worth."""
        return self.model.task

    def collect(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("a model on meta cannot be run")

    train_copies = trained_alone = collect


def check_modulations(recipe: Recipe, model: MultimodalPreTrainedModel) -> None:
    """Every modulation and learning rate of the recipe can work with the model.

    Raises:
        ValueError: it cannot.
    """
    parameter_multipliers(model, recipe.training.lr_multipliers or {})
    stack = ModulationStack(build_modulations(recipe.training.modulations), list(model.encoders))
    check_head(model, stack, type(model).__name__)
    for modulation in stack:
        modulation.attach(RunOnMeta(model, recipe.training.seed))


def on_hub(encoder: Mapping[str, Any]) -> bool:
    """Whether an encoder's config would have to be downloaded."""
    if str(encoder.get("architecture")).startswith(("hf-hub:", "hf_hub:")):
        return True
    return encoder.get("model") is not None and not Path(encoder["model"]).is_dir()


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


def metric_names(
    recipe: Recipe, modalities: Sequence[str], num_labels: int | None = None, types: Sequence[str] | None = None
) -> list[str]:
    """What an evaluation yields; `f1_binary` for two classes, or while their number is not known.

    Args:
        recipe: the recipe.
        modalities: of its model.
        num_labels: none while it is not known.
        types: the names of the types of questions; None while they are not known, or without any.
    """
    names = [name for name in recipe_task(recipe).metric_names if name != "f1_binary" or num_labels in (None, 2)]
    return [*names, *type_metric_names(types or ()), "loss", *[f"accuracy_{modality}" for modality in modalities]]


def is_type_metric(recipe: Recipe, metric: str) -> bool:
    """Whether it may be the accuracy on one type of question, of which only the data knows the names."""
    return metric.startswith(TYPE_PREFIX) and bool(recipe_task(recipe).collator_options.get("passed_on"))


def check_best_metric(
    recipe: Recipe, modalities: Sequence[str], num_labels: int | None = None, types: Sequence[str] | None = None
) -> None:
    """`metric_for_best_model` is a metric; arguments as of `metric_names`."""
    metric = recipe.training.metric_for_best_model
    if metric is None or (types is None and is_type_metric(recipe, str(metric).removeprefix("eval_"))):
        return
    valid = metric_names(recipe, modalities, num_labels, types)
    check_metric("metric_for_best_model", str(metric), valid, prefix="eval_")


def compared_metrics(recipe: Recipe) -> list[str]:
    """What runs of a recipe can be compared by."""
    modalities = recipe_modalities(recipe)
    return [
        *metric_names(recipe, modalities),
        *[f"ratio_{modality}" for modality in modalities],
        "validation_accuracy",
    ]


def check_compared_metric(metric: str, recipe: Recipe) -> None:
    """`--compare` names something that the first recipe's runs yield."""
    if not is_type_metric(recipe, metric) and "/" not in metric:  # which is measured after the run
        check_metric("--compare", metric, compared_metrics(recipe))


def check_metric(option: str, metric: str, valid: Sequence[str], prefix: str = "") -> None:
    """Raises ValueError with the closest valid name, unless `metric` is valid, with or without `prefix`."""
    if metric.removeprefix(prefix) not in valid:
        hint = did_you_mean(metric.removeprefix(prefix), valid)
        raise ValueError(f"{option}: unknown metric {metric!r}.{hint} Known: {', '.join(valid)}.")


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


def resume_point(recipe: Recipe) -> str | None:
    """The checkpoint that a run resumes, see [`resume_point`](../training/checkpoint.py); None also for
    `last` without one (`check_resume` has refused the other cases).

    Raises:
        ValueError: the given folder holds no complete checkpoint, or the newest one is of another training.
    """
    value = recipe.training.resume_from_checkpoint
    by_name = resume_request(value) not in (None, AUTO, LAST)
    found = find_resume_point(AUTO if resume_request(value) == LAST else value, recipe.training.output_dir)
    if found is not None and not by_name and goes_on_from_another(recipe, found):
        raise ValueError(
            f"resume_from_checkpoint: {found} is of a training with other options than this one. Use another "
            "output_dir, false to start from scratch, or name the checkpoint's folder to resume it all the same."
        )
    return found


def training_identity(recipe: Recipe) -> dict[str, Any]:
    """What a run writes to `TRAINING_NAME` before it trains: two that are equal train the same."""
    return {"fingerprint": fingerprint(recipe), "seed": recipe.training.seed}


def goes_on_from_another(recipe: Recipe, checkpoint: str | Path) -> bool:
    """Whether a checkpoint is known to be of a training that is not the recipe's."""
    path = Path(checkpoint).parent / TRAINING_NAME
    return path.is_file() and read_json(path) != training_identity(recipe)


def check_resume(recipes: Sequence[Recipe]) -> None:
    """Whoever wants to resume the last checkpoint has one; among several runs, one of them is enough.

    The rest of an interrupted series then starts from scratch.
    """
    points = [resume_point(recipe) for recipe in recipes]
    wanted = [r for r in recipes if resume_request(r.training.resume_from_checkpoint) == LAST]
    finished = len(recipes) > 1 and any((Path(r.training.output_dir) / METRICS_NAME).is_file() for r in recipes)
    if wanted and not any(points) and not finished:
        raise ValueError(no_checkpoint(", ".join(str(recipe.training.output_dir) for recipe in wanted)))
