"""Mean average precision (Eq. 19 of the OPM/OGM paper, TPAMI 2024)."""

from __future__ import annotations

import evaluate
import numpy as np
from numpy.typing import ArrayLike

from .accuracy import SCORES
from .validation import validated_scores


def mean_average_precision(scores: ArrayLike, labels: ArrayLike) -> tuple[float, int]:
    """Mean over classes of the non-interpolated average precision `sum_n (R_n - R_{n-1}) P_n`, one class versus rest.

    Classes without a positive label have no average precision and are left out; counting them as 0, as scikit-learn
    does, would lower the mean by an artefact of the split.

    Args:
        scores: shape (n, classes), higher means more likely; probabilities when comparable over samples is wanted.
        labels: class numbers, shape (n,).

    Returns:
        mean average precision in [0, 1], and the number of classes that occur in `labels`.

    Raises:
        ValueError: empty input, NaN, differing lengths, or a label out of range.
    """
    from sklearn.metrics import average_precision_score  # slow to import

    scores, labels = validated_scores(scores, labels)
    present = np.unique(labels)
    precisions = [average_precision_score(labels == index, scores[:, index]) for index in present]
    return float(np.mean(precisions)), len(present)


class MeanAveragePrecision(evaluate.Metric):
    """`mean_average_precision` as an `evaluate.Metric`; predictions are rows of scores.

    Example:
        >>> scores = [[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.45, 0.55]]
        >>> result = MeanAveragePrecision().compute(predictions=scores, references=[0, 0, 1, 1])
        >>> round(result["mean_average_precision"], 6), result["mean_average_precision_classes"]
        (0.833333, 2)
    """

    def _info(self) -> evaluate.MetricInfo:
        about = "Average precision of each class against the rest, averaged over the classes that occur."
        inputs = "predictions: rows of scores, one per class; references: classes."
        return evaluate.MetricInfo(about, "", SCORES, inputs)

    def _compute(self, predictions: ArrayLike, references: ArrayLike) -> dict[str, float]:
        value, num_present = mean_average_precision(predictions, references)
        return {"mean_average_precision": value, "mean_average_precision_classes": num_present}
