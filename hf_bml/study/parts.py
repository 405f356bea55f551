"""Models of one modality each, by a recipe that is the same otherwise: what a joint model starts or learns from."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from ..models import FUSIONS, MultimodalConfig
from ..models.fusion import AverageLogitsHead
from ..models.pretrained import MultimodalPreTrainedModel
from ..modulation import build_modulations
from .recipe import Recipe
from .recipe_blocks import BLOCKS
from .tasks import TASKS

JOINT_OPTIONS = (  # what joins or balances modalities
    *("modulations", "fusion", "conditioning", "interaction", "interaction_options", "bias_split"),
    *("unimodal_prediction", "auxiliary_loss_weight", "own_head_when_alone", "from_unimodal", "trained_alone"),
)
JOINT_ONLY = {
    option.name: option.default for block in BLOCKS for option in fields(block) if option.name in JOINT_OPTIONS
}
NOT_PUSHED = {"push_to_hub": False, "hub_model_id": None}  # the repository is the joint model's


def alone_changes(recipe: Recipe, modality: str) -> dict[str, Any]:
    """The options that reduce a recipe to one modality; it is pushed nowhere, and trackers know it by its own name.

    Raises:
        ValueError: the recipe starts from a checkpoint or solves another task, so that it does not say what a model of
            one modality is.
    """
    if recipe.model.model_name_or_path is not None or TASKS[recipe.model.task].config_class is not MultimodalConfig:
        found = recipe.model.model_name_or_path or f"task {recipe.model.task}"
        raise ValueError(f"expected a recipe that describes a classifier from scratch, found {found}.")
    changes = {**JOINT_ONLY, **NOT_PUSHED, "modalities": {modality: recipe.model.modalities[modality]}}
    given = recipe.training.lr_multipliers or {}
    others = [f"encoders.{name}" for name in recipe.model.modalities if name != modality]
    kept = {name: factor for name, factor in given.items() if ".".join(name.split(".")[:2]) not in others}
    if kept != given:
        changes["lr_multipliers"] = kept or None
    if "run_name" in recipe.explicit:
        changes["run_name"] = f"{recipe.explicit['run_name']}, {modality} alone"
    return changes


def methods_without_teachers(recipe: Recipe) -> list[str]:
    """The modulations that learn from models of one modality each, unless the recipe names these."""
    modulations = build_modulations(recipe.training.modulations) if recipe.training.trained_alone is None else []
    modalities = list(recipe.model.modalities or {})
    return [each.name for each in modulations if each.needs(modalities).trained_alone]


def check_start(recipe: Recipe) -> None:
    """Raises ValueError unless the recipe's model can be built from those of its modalities, where it asks for it."""
    model = recipe.model
    if model.from_unimodal is None or model.model_name_or_path is not None:
        return
    for modality in model.modalities or {}:
        alone_changes(recipe, modality)
    if model.from_unimodal != "models":
        return
    if model.task == "regression" and model.label_mean is None:
        raise ValueError(
            "from_unimodal: models joins regressions, which must have one scale. Set label_mean and label_std to "
            "those of the training labels."
        )
    if not issubclass(FUSIONS.find(model.fusion), AverageLogitsHead):
        raise ValueError(
            f"from_unimodal: models needs a head that averages, found fusion {model.fusion!r}. Set fusion: "
            "average_probabilities or average_logits."
        )
    for option in ("interaction", "auxiliary_loss_weight"):
        if vars(model)[option] is not None:
            raise ValueError(
                f"from_unimodal: models joins trained models, found {option}: {vars(model)[option]!r}. Leave it out."
            )
    if recipe.training.modulations:
        raise ValueError(
            f"from_unimodal: models trains nothing jointly, found modulations {list(recipe.training.modulations)}. "
            "Leave them out."
        )


def load_parts(model: MultimodalPreTrainedModel, recipe: Recipe) -> None:
    """Copies what `from_unimodal` says out of the finished runs of the recipe's parts.

    Raises:
        ValueError: the parts were not planned, or an encoder has another form in the joint model.
    """
    start = recipe.model.from_unimodal
    if start is None or recipe.model.model_name_or_path is not None:
        return
    for modality, encoder in model.encoders.items():
        if modality not in recipe.parts:
            raise ValueError(f"from_unimodal: {start} needs models of {list(model.encoders)}. Use hf-bml train.")
        part = type(model).from_pretrained(recipe.parts[modality].training.output_dir, use_safetensors=True)
        try:
            encoder.load_state_dict(part.encoders[modality].state_dict())
        except RuntimeError as error:
            raise ValueError(
                f"from_unimodal: the encoder of {modality!r} is built otherwise alone: {error}"
            ) from error
        if start == "models":
            model.head.classifiers[modality].load_state_dict(part.head.classifier.state_dict())
