"""Accuracy (Eq. 18 of the OPM/OGM paper, TPAMI 2024)."""

from __future__ import annotations

import evaluate
from datasets import Features, List, Value
from numpy.typing import ArrayLike

from .validation import predicted_classes

# What an `evaluate.Metric` takes.
SCORES = Features({"predictions": List(Value("float64")), "references": Value("int64")})
CLASSES_OR_SCORES = [Features({"predictions": Value("int64"), "references": Value("int64")}), SCORES]
INPUTS = "predictions: classes, or rows of scores; references: classes."


def accuracy(logits_or_predictions: ArrayLike, labels: ArrayLike) -> float:
    """Share of samples whose predicted class is the label.

    Args:
        logits_or_predictions: scores of shape (n, classes), or predicted classes of shape (n,).
        labels: class numbers, shape (n,).

    Returns:
        accuracy in [0, 1].

    Raises:
        ValueError: empty input, NaN, differing lengths, or a label out of range.
    """
    predictions, labels = predicted_classes(logits_or_predictions, labels)
    return float((predictions == labels).mean())


class Accuracy(evaluate.Metric):
    """`accuracy` as an `evaluate.Metric`; predictions are classes, or rows of scores.

    Example:
        >>> Accuracy().compute(predictions=[0, 1, 1], references=[0, 1, 0])["accuracy"] == 2 / 3
        True
        >>> Accuracy().compute(predictions=[[0.9, 0.1], [0.4, 0.6]], references=[0, 0])
        {'accuracy': 0.5}
    """

    def _info(self) -> evaluate.MetricInfo:
        about = "Share of samples whose predicted class is the label."
        return evaluate.MetricInfo(about, "", CLASSES_OR_SCORES, INPUTS)

    def _compute(self, predictions: ArrayLike, references: ArrayLike) -> dict[str, float]:
        return {"accuracy": accuracy(predictions, references)}
