"""Which metrics a recipe's runs have, and whether one that was asked for is among them."""

from __future__ import annotations

from collections.abc import Sequence

from ..ground.suggestion import did_you_mean
from ..metrics.question_answering import TYPE_PREFIX, type_metric_names
from .recipe import Recipe
from .run_model import recipe_modalities, recipe_task


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
    alone = [f"{name}_{modality}" for modality in modalities for name in recipe_task(recipe).unimodal_names]
    return [*names, *type_metric_names(types or ()), "loss", *alone]


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
        f"validation_{recipe_task(recipe).metric_names[0]}",
    ]


def compared_metric(metric: str, recipe: Recipe) -> str:
    """What `--compare` names, which the first recipe's runs must yield; by default the first metric of their task."""
    names = recipe_task(recipe).metric_names
    if metric == "accuracy" and metric not in names:
        return names[0]
    if not is_type_metric(recipe, metric) and "/" not in metric:  # which is measured after the run
        check_metric("--compare", metric, compared_metrics(recipe))
    return metric


def check_metric(option: str, metric: str, valid: Sequence[str], prefix: str = "") -> None:
    """Raises ValueError with the closest valid name, unless `metric` is valid, with or without `prefix`."""
    if metric.removeprefix(prefix) not in valid:
        hint = did_you_mean(metric.removeprefix(prefix), valid)
        raise ValueError(f"{option}: unknown metric {metric!r}.{hint} Known: {', '.join(valid)}.")
