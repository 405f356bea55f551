"""The metadata of a model card: tags, data and results, as the Hub indexes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from ..data import dataset_names
from ..data.description import describe_dataset
from ..ground.task import SINGLE_LABEL
from .facts import CardFacts

METRICS = {  # id on the Hub and name, where they are not the metric's own
    "accuracy": ("accuracy", "accuracy"),
    "mean_average_precision": ("mean_average_precision", "mean average precision"),
    "f1_weighted": ("f1", "F1, weighted"),
    "f1_macro": ("f1", "F1, macro"),
    "f1_binary": ("f1", "F1"),
    "f1_micro": ("f1", "F1, micro"),
    "mae": ("mae", "mean absolute error"),
    "rmse": ("rmse", "root mean squared error"),
    "correlation": ("pearsonr", "Pearson's correlation"),
}


@dataclass
class CardOptions:
    """What only the author of a model knows; all of it can be left out.

    Attributes:
        source: where the quick start loads the model from, an id on the Hub or a folder; default the model's name.
        license: an id that the Hub knows, such as "apache-2.0".
        language: of the data.
        tags: beside those that follow from the run.
        base_model: the model that this one was fine-tuned from.
        dataset: a readable name of the data.
        dataset_ids: Hub ids of the data.
        task: default "multimodal-classification".
        dataset_args: of the evaluation, for the metadata.
        code: whether the code of a model of this package lies beside it (see `save_code`).
    """

    source: str | None = None
    license: str | None = None
    language: str | None = None
    tags: Sequence[str] = ()
    base_model: str | None = None
    dataset: str | None = None
    dataset_ids: Sequence[str] = ()
    task: str | None = None
    dataset_args: Mapping[str, Any] | None = None
    code: bool = False


def card_data(facts: CardFacts, options: CardOptions, about: Mapping[str, Any]) -> ModelCardData:
    """The metadata. It has no `pipeline_tag`: the Hub knows no task of this kind, and another one would show a widget
    that cannot work."""
    results = [
        EvalResult(
            task_type=options.task or task_name(facts),
            dataset_type=about["id"],
            dataset_name=about["name"],
            dataset_split=split,
            dataset_args=dict(options.dataset_args) if options.dataset_args else None,
            metric_type=metric_id(metric, facts.modalities)[0],
            metric_name=metric_id(metric, facts.modalities)[1],
            metric_value=round(value, 4),
        )
        for split, metrics in sorted(facts.results.items())
        for metric, value in metrics.items()
        if about["id"] and is_score(metric)
    ]
    tags = ["multimodal", task_name(facts), "balanced-multimodal-learning", *facts.modalities, *facts.modulations]
    tags += options.tags
    return ModelCardData(
        language=options.language,
        license=options.license,
        library_name="hf_bml",
        tags=list(dict.fromkeys(tags)),
        base_model=options.base_model,
        datasets=about["hub_ids"] or None,
        metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
        model_name=facts.name if results else None,
        eval_results=results or None,
    )


def task_name(facts: CardFacts) -> str:
    """`multimodal-classification`, or that of another task of the recipe."""
    known = facts.config.get("problem_type") or "classification"
    known = "classification" if known == SINGLE_LABEL else known
    return f"multimodal-{facts.settings.get('task', known)}".replace("_", "-")


def is_score(metric: str) -> bool:
    """Whether a metric belongs into the tables: neither a loss nor a count."""
    return metric != "loss" and not metric.endswith("_classes")


def metric_id(metric: str, modalities: Sequence[str]) -> tuple[str, str]:
    """The id of a metric on the Hub, and its name.

    Example:
        >>> metric_id("accuracy_audio", ["audio", "visual"])
        ('accuracy', 'accuracy, audio alone')
    """
    for modality in modalities:
        if metric.endswith(f"_{modality}"):
            joint, name = metric_id(metric.removesuffix(f"_{modality}"), ())
            return joint, f"{name}, {modality} alone"
    return METRICS.get(metric, (metric, metric.replace("_", " ")))


def describe_data(facts: CardFacts, options: CardOptions) -> dict[str, Any]:
    """What is known of the data: `id`, `name`, `hub_ids`, and the `topics` of the data set's module.

    A module says nothing about what it reads from the Hub: that may be a part of its corpus, or another one. The Hub
    takes `hub_ids` for repositories, so that a name of our own is only the `id` of the results.
    """
    dataset = facts.settings.get("dataset")
    own_options = facts.settings.get("dataset_options") or {}
    is_from_hub = own_options.get("hub_id") is not None
    is_ours = dataset in dataset_names() and dataset != "from_columns"
    hub_ids = list(options.dataset_ids)
    if not hub_ids:
        hub_ids = [own_options[key] for key in ("hub_id", "path") if is_hub_id(own_options.get(key))][:1]
    if dataset == "from_columns" or is_from_hub:
        dataset = hub_ids[0] if hub_ids else options.dataset
    return {
        "id": (hub_ids or [dataset or options.dataset])[0],
        "name": options.dataset or dataset,
        "hub_ids": hub_ids,
        "topics": describe_dataset(facts.settings["dataset"]) if is_ours and not is_from_hub else {},
    }


def is_hub_id(name: Any) -> bool:
    """Whether this is `owner/name` and not a folder of this machine."""
    is_pair = isinstance(name, str) and name.count("/") == 1 and not name.startswith((".", "/"))
    return is_pair and not name.endswith("/") and not Path(name).exists()
