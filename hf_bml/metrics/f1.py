"""F1 score (Eq. 20 of the OPM/OGM paper, TPAMI 2024)."""

from __future__ import annotations

import evaluate
import numpy as np
from numpy.typing import ArrayLike

from ..ground.suggestion import check_name
from .accuracy import CLASSES_OR_SCORES, INPUTS
from .validation import predicted_classes


def f1_score(logits_or_predictions: ArrayLike, labels: ArrayLike, average: str = "weighted") -> float:
    """Harmonic mean of precision and recall.

    The paper prints the positive-class form; CMU-MOSI practice is the weighted one. Means are over the classes that
    are predicted or labelled; a class without a correct prediction has 0.

    Args:
        logits_or_predictions: scores of shape (n, classes), or predicted classes of shape (n,).
        labels: class numbers, shape (n,).
        average: "weighted": mean over classes weighted by their number of labels. "macro": unweighted mean. "binary":
            class 1 of two classes.

    Returns:
        F1 in [0, 1].

    Raises:
        ValueError: unknown `average`, more than two classes with "binary", or input that `accuracy` rejects.
    """
    import sklearn.metrics  # slow to import

    check_name("average", average, ("weighted", "macro", "binary"))
    predictions, labels = predicted_classes(logits_or_predictions, labels)
    if average == "binary":
        shape = np.shape(logits_or_predictions)
        num_classes = shape[1] if len(shape) == 2 else max(predictions.max(), labels.max(), 1) + 1
        if num_classes != 2:
            raise ValueError(f"Expected 2 classes for average='binary', found {num_classes}. Use average='weighted'.")
    return float(sklearn.metrics.f1_score(labels, predictions, average=average, zero_division=0))


class F1(evaluate.Metric):
    """`f1_score` as an `evaluate.Metric`; `compute(..., average="binary")` or `"macro"` selects another form.

    Example:
        >>> inputs = {"predictions": [1, 1, 0, 0, 1], "references": [1, 1, 1, 0, 0]}
        >>> round(F1().compute(**inputs)["f1_weighted"], 6)
        0.6
        >>> round(F1().compute(**inputs, average="binary")["f1_binary"], 6)
        0.666667
    """

    def _info(self) -> evaluate.MetricInfo:
        about = "Harmonic mean of precision and recall, over classes or of class 1."
        return evaluate.MetricInfo(about, "", CLASSES_OR_SCORES, INPUTS)

    def _compute(self, predictions: ArrayLike, references: ArrayLike, average: str = "weighted") -> dict[str, float]:
        return {f"f1_{average}": f1_score(predictions, references, average)}
