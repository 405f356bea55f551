"""Validates the model of a recipe, without memory or weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..ground.task import Task
from ..models import INTERACTIONS
from ..models.encoders.build import encoder_class
from ..models.face import ModelFace
from ..models.interaction import Interaction
from ..models.pretrained import MultimodalPreTrainedModel
from ..modulation import ModulationStack, build_modulations
from ..training.learning_rate import parameter_multipliers
from ..training.needs import check_head
from .recipe import Recipe
from .run_model import build_config, check_checkpoint_task, checkpoint_config, recipe_task


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
