"""Accuracy of models that label every segment of a clip, such as the seconds of AVE (paper Table 7)."""

from __future__ import annotations

from typing import Any

import evaluate
import numpy as np
from datasets import Features, List, Value
from numpy.typing import ArrayLike
from transformers import EvalPrediction

from ..ground.task import UNLABELLED
from .unimodal_accuracy import accuracies_alone
from .validation import split_predictions, validated_scores


def flat_segments(logits: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Scores (n, segments, classes) and labels (n, segments) with one row per segment that has a label (not -100).

    Returns:
        scores, float64 (labelled segments, classes), and labels, int64 (labelled segments,).

    Raises:
        ValueError: other shapes, NaN, or a label out of range.
    """
    logits, labels = np.asarray(logits), np.asarray(labels)
    if logits.ndim != 3 or labels.shape != logits.shape[:2]:
        raise ValueError(
            f"Expected scores of shape (n, segments, classes) and labels of shape (n, segments), found {logits.shape} "
            f"and {labels.shape}. Pass one row of scores and one label per segment."
        )
    known = labels.ravel() != UNLABELLED
    return validated_scores(logits.reshape(-1, logits.shape[-1])[known], labels.ravel()[known])


def segment_accuracy(logits: ArrayLike, labels: ArrayLike) -> float:
    """Share of segments whose predicted class is the label, background included.

    Args:
        logits: scores of shape (n, segments, classes).
        labels: class numbers, shape (n, segments).

    Returns:
        accuracy in [0, 1].

    Raises:
        ValueError: see `flat_segments`.
    """
    logits, labels = flat_segments(logits, labels)
    return float((logits.argmax(axis=1) == labels).mean())


def event_accuracy(logits: ArrayLike, labels: ArrayLike, background: int | None = None) -> float | None:
    """The same over the segments that are not background; a segment that is called background is an error.

    Args:
        logits: scores of shape (n, segments, classes).
        labels: class numbers, shape (n, segments).
        background: its class; None for the last.

    Returns:
        accuracy in [0, 1]; None if every segment is background.

    Raises:
        ValueError: see `flat_segments`.
    """
    logits, labels = flat_segments(logits, labels)
    is_event = labels != (logits.shape[1] - 1 if background is None else background)
    return float((logits.argmax(axis=1) == labels)[is_event].mean()) if is_event.any() else None


def segment_classification_metrics(eval_prediction: EvalPrediction) -> dict[str, float]:
    """Joint and uni-modal accuracies, for `Trainer(compute_metrics=...)`.

    Args:
        eval_prediction: `label_ids` of shape (n, segments), and `predictions`: logits of shape (n, segments, classes),
            or a tuple of these, `{modality: (n, segments, classes)}` and optionally a bool keep mask (n, modalities).
            The last class is the background.

    Returns:
        flat floats: `accuracy` (segment-wise, the paper's), `event_accuracy` (absent without events), and
        `accuracy_<modality>` over the clips that have the modality (absent if none has it).

    Raises:
        ValueError: see `flat_segments`, or another form of `predictions`.
    """
    logits, unimodal_logits, keep_mask = split_predictions(eval_prediction.predictions)
    labels = np.asarray(eval_prediction.label_ids)
    metrics = {"accuracy": segment_accuracy(logits, labels)}
    of_events = event_accuracy(logits, labels)
    if of_events is not None:
        metrics["event_accuracy"] = of_events
    alone = accuracies_alone(unimodal_logits, labels, keep_mask, segment_accuracy)
    return {**metrics, **{f"accuracy_{name}": value for name, value in alone.items()}}


class SegmentAccuracy(evaluate.Metric):
    """`segment_accuracy` as an `evaluate.Metric`; predictions are the rows of scores of a clip's segments.

    Example:
        >>> scores = [[[0.9, 0.1], [0.2, 0.8]], [[0.6, 0.4], [0.7, 0.3]]]
        >>> SegmentAccuracy().compute(predictions=scores, references=[[0, 1], [0, 1]])
        {'segment_accuracy': 0.75}
    """

    def _info(self) -> evaluate.MetricInfo:
        about = "Share of segments whose predicted class is the label."
        inputs = "predictions: per clip a row of scores per segment; references: a class per segment."
        features = Features({"predictions": List(List(Value("float64"))), "references": List(Value("int64"))})
        return evaluate.MetricInfo(about, "", features, inputs)

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return {"segment_accuracy": segment_accuracy(predictions, references)}
