"""The trainer of a run, on the recipe's model and data."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from datasets import (
    ClassLabel,
    DatasetDict,
    Features,
    IterableDatasetDict,
)
from transformers import EvalPrediction

from ..models.pretrained import MultimodalPreTrainedModel
from ..processing import MultimodalDataCollator, MultimodalProcessor
from ..processing.streaming import ProcessedStreams
from ..training.trainer import MultimodalBalancedTrainer
from .progress import CompactProgressCallback
from .recipe import Recipe
from .run_model import recipe_task
from .tasks import Task


def build_trainer(
    recipe: Recipe,
    dataset: DatasetDict,
    model: MultimodalPreTrainedModel,
    processor: MultimodalProcessor | None,
) -> MultimodalBalancedTrainer:
    """A trainer for the recipe's model on the processed splits."""
    modalities = list(model.encoders)
    task = recipe_task(recipe)
    check_vocabularies(model, processor)
    trainer = MultimodalBalancedTrainer(
        model,
        recipe.training,
        data_collator=MultimodalDataCollator(
            modalities,
            num_labels=model.config.num_labels,
            pad_token_id=pad_token_id(processor),
            **task.collator_options,
        ),
        train_dataset=dataset["train"],
        eval_dataset=dataset["validation"],
        compute_metrics=evaluation_metrics(task, dataset),
        processing_class=processor,  # saved and pushed with the model
    )
    CompactProgressCallback.replace_in(trainer, modalities)
    return trainer


def column_types(dataset: DatasetDict | IterableDatasetDict) -> Features:
    """The types of the training split's columns; of processed streams, of those that are passed on as they are."""
    return dataset.passed_features["train"] if isinstance(dataset, ProcessedStreams) else dataset["train"].features


def evaluation_metrics(task: Task, dataset: DatasetDict) -> Callable[[EvalPrediction], dict[str, float]]:
    """The task's metrics; they get the names of the classes that are passed on, where the data has them."""
    names = type_names(task, dataset)
    return task.metrics if names is None else partial(task.metrics, type_names=names)


def type_names(task: Task, dataset: DatasetDict) -> list[str] | None:
    """The names of the classes that are passed on to the task's metrics; None where there are none."""
    features = column_types(dataset) or {}
    for column in task.collator_options.get("passed_on", ()):
        if isinstance(features.get(column), ClassLabel):
            return features[column].names
    return None


def check_vocabularies(model: MultimodalPreTrainedModel, processor: MultimodalProcessor | None) -> None:
    """Raises ValueError if a processor gives token ids that the modality's encoder does not have."""
    for name, transform in (processor.transforms if processor is not None else {}).items():
        encoder = model.config.modalities.get(name, {})
        size = encoder.get("vocab_size", (encoder.get("config") or {}).get("vocab_size"))
        if size is not None and transform.vocab_size > size:
            raise ValueError(
                f"modality {name!r}: the encoder has vocab_size={size}, but its processor gives "
                f"{transform.vocab_size} token ids. Set vocab_size to {transform.vocab_size}."
            )


def pad_token_id(processor: MultimodalProcessor | None) -> int:
    """What the collator pads token ids with; 0 without processor."""
    return 0 if processor is None else processor.pad_token_id
