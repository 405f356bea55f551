"""The model of a run, as its recipe describes it."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, set_seed

from ..ground.hub_failure import reason_of
from ..models.configuration_multimodal import ModalitiesConfig
from ..models.pretrained import MultimodalPreTrainedModel
from .methods import model_options_of
from .recipe import Recipe
from .tasks import TASKS, Task, task_name


def recipe_task(recipe: Recipe) -> Task:
    """What the recipe trains for."""
    return TASKS[recipe.model.task]


def checkpoint_config(name_or_path: str) -> ModalitiesConfig:
    """The config of a checkpoint, of any task.

    Raises:
        ValueError: no checkpoint there, or one of another kind of model.
    """
    try:
        config = AutoConfig.from_pretrained(name_or_path)
    except OSError as error:
        raise ValueError(f"model_name_or_path {name_or_path!r} is not a checkpoint: {reason_of(error)}.") from error
    if task_name(config) is None:
        raise ValueError(
            f"model_name_or_path {name_or_path!r}: expected a multimodal model, found {config.model_type}."
        )
    return config


def check_checkpoint_task(recipe: Recipe) -> None:
    """Raises ValueError if the checkpoint that the recipe starts from is one of another task."""
    task = task_name(checkpoint_config(recipe.model.model_name_or_path))
    if task != recipe.model.task:
        raise ValueError(
            f"model_name_or_path {recipe.model.model_name_or_path!r} is a model of task {task}, but the recipe has "
            f"task: {recipe.model.task}. Set task: {task}."
        )


def recipe_modalities(recipe: Recipe) -> list[str]:
    """The model's modalities: the checkpoint's if the recipe starts from one.

    Raises:
        ValueError: the recipe's `modalities` have other names than the checkpoint's.
    """
    given = list(recipe.model.modalities or {})
    if recipe.model.model_name_or_path is None:
        return given
    names = list(checkpoint_config(recipe.model.model_name_or_path).modalities)
    if given and set(given) != set(names):
        raise ValueError(
            f"the checkpoint {recipe.model.model_name_or_path!r} has the modalities {names}, but the recipe's "
            f"modalities are {given}. Remove the recipe's `modalities`, or use the same names."
        )
    return names


def build_config(recipe: Recipe, **options: Any) -> ModalitiesConfig:
    """The config of the recipe's model, with what its modulations need of it where the recipe does not say.

    Args:
        recipe: without a checkpoint to start from.
        options: of the config's class; they win.
    """
    task = recipe_task(recipe)
    given = {name: vars(recipe.model)[name] for name in task.options}
    for name, chosen in (recipe.training.modulations or {}).items():
        needed = model_options_of(name, chosen).items()
        given |= {option: value for option, value in needed if option in given and option not in recipe.explicit}
    return task.config_class(**{**given, **task.config_options, **options})


def build_model(recipe: Recipe, class_names: list[str] | None, num_labels: int) -> MultimodalPreTrainedModel:
    """The recipe's model: its checkpoint, or initialised by the recipe's seed.

    Raises:
        ValueError: the checkpoint's weights are missing, or the config is invalid.
    """
    checkpoint = recipe.model.model_name_or_path
    model_class = recipe_task(recipe).model_class
    if checkpoint is not None:
        try:
            model = model_class.from_pretrained(checkpoint, use_safetensors=True)
        except OSError as error:
            raise ValueError(f"model_name_or_path {checkpoint!r} cannot be loaded: {reason_of(error)}.") from error
        name_classes(model, class_names)
        return model
    names = class_names or [f"LABEL_{index}" for index in range(num_labels)]
    set_seed(recipe.training.seed)
    classes = {"id2label": dict(enumerate(names)), "label2id": {name: index for index, name in enumerate(names)}}
    return model_class(build_config(recipe, **classes))


def name_classes(model: MultimodalPreTrainedModel, names: list[str] | None) -> None:
    """Gives a checkpoint's model the class names of the data that it is trained on now, if these have as many.

    Raises:
        ValueError: the data has the same classes in another order.
    """
    old = [model.config.id2label[index] for index in range(model.config.num_labels)]
    if names is None or names == old or len(names) != len(old):
        return
    if sorted(names) == sorted(old):
        raise ValueError(
            f"the checkpoint's classes are {old}, the data has the same in another order, {names}. Number the data's "
            "labels as the checkpoint does."
        )
    model.config.id2label = dict(enumerate(names))
    model.config.label2id = {name: index for index, name in enumerate(names)}
