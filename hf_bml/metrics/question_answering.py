"""Accuracy of answers, overall and by the type of the question, for `Trainer(compute_metrics=...)`."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from transformers import EvalPrediction

from ..ground.task import UNLABELLED
from .accuracy import accuracy
from .unimodal_accuracy import accuracies_alone
from .validation import labelled, predicted_classes, split_predictions, validated_labels, validated_scores

TYPE_PREFIX = "accuracy_on_"


def accuracy_by_type(logits_or_predictions: ArrayLike, labels: ArrayLike, types: ArrayLike) -> dict[int, float]:
    """Accuracy within each type of question.

    Args:
        logits_or_predictions: scores of shape (n, answers), or predicted answers of shape (n,).
        labels: answers, shape (n,).
        types: type of each question, integers >= 0, shape (n,).

    Returns:
        `{type: accuracy in [0, 1]}` for the types that occur, in ascending order.

    Raises:
        ValueError: input that `accuracy` rejects, or another number of types.

    Example:
        >>> accuracy_by_type([0, 1, 1, 0], [0, 1, 0, 0], [2, 2, 2, 5])[5]
        1.0
    """
    predictions, labels = predicted_classes(logits_or_predictions, labels)
    types = validated_labels(types)
    if len(types) != len(labels):
        raise ValueError(f"Expected a type per question, found {len(types)} types and {len(labels)} labels.")
    return {int(kind): float((predictions == labels)[types == kind].mean()) for kind in np.unique(types)}


def type_metric_names(type_names: Sequence[str]) -> list[str]:
    """What `question_answering_metrics` calls the accuracy on each type of question.

    Example:
        >>> type_metric_names(["Audio Counting", "Audio-Visual Temporal"])
        ['accuracy_on_audio_counting', 'accuracy_on_audio_visual_temporal']
    """
    return [f"{TYPE_PREFIX}{re.sub('[^a-z0-9]+', '_', name.lower()).strip('_')}" for name in type_names]


def question_answering_metrics(
    eval_prediction: EvalPrediction, type_names: Sequence[str] | None = None
) -> dict[str, float]:
    """Accuracies of a model that answers questions: overall, by type of question, and of each modality alone.

    Args:
        eval_prediction: `label_ids` of shape (n,), and `predictions` as the evaluation loop returns them for
            [`MultimodalForQuestionAnswering`]: logits (n, answers), or a tuple of these, `{modality: (n, answers)}`,
            a bool keep mask (n, modalities) and, if the data has it, the type of each question (n,).
        type_names: names of the types; default their numbers.

    Returns:
        flat floats: `accuracy`; `accuracy_on_<type>` for the types that occur, in lower case with `_`;
        `accuracy_<modality>` over the samples that have the modality (absent if none has it).

    Raises:
        ValueError: empty input, NaN, differing lengths, a label or type out of range, or another form of
            `predictions`.
    """
    logits, unimodal_logits, keep_mask, types = split_predictions(eval_prediction.predictions, ("question_type",))
    if types is not None:
        types = np.asarray(types)[np.asarray(eval_prediction.label_ids) != UNLABELLED]
    labels, logits, unimodal_logits, keep_mask = labelled(
        eval_prediction.label_ids, logits, unimodal_logits, keep_mask
    )
    logits, labels = validated_scores(logits, labels)
    metrics = {"accuracy": accuracy(logits, labels)}
    if types is not None:
        found = accuracy_by_type(logits, labels, types)
        last = max(found)
        if type_names is not None and last >= len(type_names):
            raise ValueError(f"Expected question types in [0, {len(type_names)}), found {last}.")
        names = type_metric_names([str(kind) for kind in range(last + 1)] if type_names is None else type_names)
        metrics.update({names[kind]: value for kind, value in found.items()})
    alone = accuracies_alone(unimodal_logits, labels, keep_mask)
    return {**metrics, **{f"accuracy_{name}": value for name, value in alone.items()}}
