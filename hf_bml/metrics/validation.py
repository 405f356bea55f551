"""Checks shared by the metrics: errors say what was expected, what was found, and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..ground.task import UNLABELLED


def split_predictions(predictions: Any, also: Sequence[str] = ()) -> tuple[Any, ...]:
    """Logits, `{modality: logits}` and a bool keep mask (n, modalities), as the evaluation loop returns them.

    Args:
        predictions: logits, or a tuple of logits, `{modality: logits}` and optionally a keep mask and more.
        also: what may follow the keep mask.

    Returns:
        the three, without modalities `{}`, without a keep mask None; and what follows, None where it is missing.

    Raises:
        ValueError: another form.
    """
    names = ("logits", "{modality: logits}", "keep_mask", *also)
    items = predictions if isinstance(predictions, tuple) else (predictions,)
    logits, unimodal_logits, keep_mask, *others = (*items, *[None] * (len(names) - len(items)))
    if len(items) > len(names) or not isinstance(unimodal_logits, dict | None):
        raise ValueError(
            f"Expected predictions to be logits or ({', '.join(names)}), found a tuple of "
            f"{[type(item).__name__ for item in items]}. List other model outputs in keys_to_ignore_at_inference."
        )
    return logits, unimodal_logits or {}, None if keep_mask is None else np.asarray(keep_mask), *others


def labelled(
    labels: ArrayLike, logits: ArrayLike, unimodal_logits: Mapping[str, ArrayLike], keep_mask: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray], np.ndarray | None]:
    """Labels as class numbers, and the predictions of the samples that have one.

    Args:
        labels: class numbers `(n,)`, -100 where a sample has none; or probabilities of the classes, floats (n,
            classes), of which the largest is taken.
        logits, unimodal_logits, keep_mask: see `split_predictions`.
    """
    labels, logits = np.asarray(labels), np.asarray(logits)
    if labels.ndim == 2 and np.issubdtype(labels.dtype, np.floating):
        labels = labels.argmax(axis=1)
    known = labels != UNLABELLED if labels.ndim == 1 and len(labels) == len(logits) else np.ones(len(labels), bool)
    if known.all():
        return labels, logits, dict(unimodal_logits), keep_mask
    own = {name: np.asarray(values)[known] for name, values in unimodal_logits.items()}
    return labels[known], logits[known], own, None if keep_mask is None else keep_mask[known]


def validated_labels(labels: ArrayLike, num_classes: int | None = None) -> np.ndarray:
    """Labels as an int64 array of shape (n,).

    Raises:
        ValueError: not 1-D, empty, not integers, or outside [0, num_classes).
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.size == 0:
        raise ValueError(
            f"Expected labels of shape (n,) with n >= 1, found shape {labels.shape}. Evaluate at least one sample."
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"Expected integer labels, found {labels.dtype}. Convert the labels to class numbers.")
    out_of_range = labels[(labels < 0) | (labels >= (np.inf if num_classes is None else num_classes))]
    if out_of_range.size:
        upper = "number of classes" if num_classes is None else num_classes
        raise ValueError(
            f"Expected labels in [0, {upper}), found {int(out_of_range[0])}. "
            "Renumber the classes or widen the model's num_labels."
        )
    return labels.astype(np.int64)


def validated_scores(scores: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Scores as a float64 array of shape (n, classes) and labels as an int64 array of shape (n,).

    Raises:
        ValueError: not 2-D, empty, NaN, a different number of labels, or a label out of range.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 2 or scores.size == 0:
        raise ValueError(
            f"Expected scores of shape (n, classes) with n >= 1, found shape {scores.shape}. "
            "Pass one row of scores per sample."
        )
    if np.isnan(scores).any():
        row = int(np.isnan(scores).any(axis=1).argmax())
        raise ValueError(f"Expected scores without NaN, found NaN in row {row}. Check whether training diverged.")
    labels = validated_labels(labels, scores.shape[1])
    _check_same_length(scores, labels)
    return scores, labels


def predicted_classes(logits_or_predictions: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Predicted classes and labels, both int64 (n,), from logits (n, classes) or from predicted classes (n,).

    Raises:
        ValueError: as `validated_scores` and `validated_labels`.
    """
    predictions = np.asarray(logits_or_predictions)
    if predictions.ndim == 2:
        scores, labels = validated_scores(predictions, labels)
        return scores.argmax(axis=1), labels
    predictions, labels = validated_labels(predictions), validated_labels(labels)
    _check_same_length(predictions, labels)
    return predictions, labels


def _check_same_length(predictions: np.ndarray, labels: np.ndarray) -> None:
    if len(predictions) != len(labels):
        raise ValueError(
            f"Expected one label per prediction, found {len(predictions)} predictions and {len(labels)} labels. "
            "Pass matching arrays."
        )
