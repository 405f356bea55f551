"""Metrics of models that tell which of several labels a sample has."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from transformers import EvalPrediction

from .unimodal_accuracy import accuracies_alone
from .validation import split_predictions


def validated_bits(logits: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Logits as float64 and labels as bool, both (n, labels).

    Raises:
        ValueError: other shapes, empty input, NaN, or a label out of [0, 1].
    """
    logits, labels = np.asarray(logits, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if logits.ndim != 2 or logits.size == 0 or labels.shape != logits.shape:
        raise ValueError(
            f"Expected logits and labels of one shape (n, labels) with n >= 1, found {logits.shape} and "
            f"{labels.shape}. Pass a 0 or 1 for each label of each sample."
        )
    if np.isnan(logits).any():
        row = int(np.isnan(logits).any(axis=1).argmax())
        raise ValueError(f"Expected logits without NaN, found NaN in row {row}. Check whether training diverged.")
    if not ((labels >= 0) & (labels <= 1)).all():
        raise ValueError(f"Expected labels in [0, 1], found {labels[(labels < 0) | (labels > 1)][0]}.")
    return logits, labels > 0.5


def subset_accuracy(logits: ArrayLike, labels: ArrayLike) -> float:
    """Share of samples all of whose labels are right, a logit above 0 being a yes.

    Args:
        logits: shape (n, labels).
        labels: 0 or 1, shape (n, labels).

    Raises:
        ValueError: see `validated_bits`.

    Example:
        >>> subset_accuracy([[2.0, -1.0], [0.5, 0.5]], [[1, 0], [1, 0]])
        0.5
    """
    logits, labels = validated_bits(logits, labels)
    return float(((logits > 0) == labels).all(axis=1).mean())


def multi_label_metrics(eval_prediction: EvalPrediction) -> dict[str, float]:
    """Joint and uni-modal metrics of a multi-label classifier, for `Trainer(compute_metrics=...)`.

    Args:
        eval_prediction: `label_ids` of shape (n, labels), 0 or 1 (above 1/2 counts as 1), and `predictions`: logits of
            that shape, or a tuple of these, `{modality: (n, labels)}` and optionally a bool keep mask (n, modalities).

    Returns:
        flat floats in [0, 1]: `accuracy`, of samples all of whose labels are right; `hamming_loss`, the share of wrong
        labels; `f1_micro` over all labels and `f1_macro`, the mean over the labels; `mean_average_precision`, over the
        labels that any sample has; `accuracy_<modality>` over the samples that have the modality (absent if none has).

    Raises:
        ValueError: see `validated_bits`, or another form of `predictions`.
    """
    from sklearn.metrics import average_precision_score, f1_score, hamming_loss  # slow to import

    predictions, unimodal_logits, keep_mask = split_predictions(eval_prediction.predictions)
    logits, labels = validated_bits(predictions, eval_prediction.label_ids)
    found = logits > 0
    precisions = [average_precision_score(*pair) for pair in zip(labels.T, logits.T, strict=True) if pair[0].any()]
    metrics = {
        "accuracy": subset_accuracy(logits, labels),
        "hamming_loss": float(hamming_loss(labels, found)),
        "f1_micro": float(f1_score(labels, found, average="micro", zero_division=0)),
        "f1_macro": float(f1_score(labels, found, average="macro", zero_division=0)),
        "mean_average_precision": float(np.mean(precisions)) if precisions else 0.0,
    }
    alone = accuracies_alone(unimodal_logits, labels, keep_mask, subset_accuracy)
    return {**metrics, **{f"accuracy_{name}": value for name, value in alone.items()}}
