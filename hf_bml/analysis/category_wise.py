"""Accuracy class by class, joint and of each modality alone (paper Sec. 4.4.5, Fig. 8)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..metrics.validation import predicted_classes


def per_class_accuracy(logits_or_predictions: ArrayLike, labels: ArrayLike, num_classes: int) -> np.ndarray:
    """Share of each class's samples that are predicted right, which is the class's recall.

    Args:
        logits_or_predictions: `(n, classes)`, or predicted classes `(n,)`.
        labels: `(n,)`.
        num_classes: how many classes there are.

    Returns:
        float64 `(num_classes,)` in [0, 1]; NaN for a class without samples.

    Raises:
        ValueError: input that `accuracy` rejects.

    Example:
        >>> per_class_accuracy([0, 1, 1, 2], [0, 0, 1, 1], 4).tolist()
        [0.5, 0.5, nan, nan]
    """
    predictions, labels = predicted_classes(logits_or_predictions, labels)
    counts = class_counts(labels, num_classes)
    hits = class_counts(labels[predictions == labels], num_classes)
    return np.divide(hits, counts, out=np.full(num_classes, np.nan), where=counts > 0)


def class_counts(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """How many samples each class has, int64 `(num_classes,)`.

    Raises:
        ValueError: a label that is not a class.
    """
    if len(labels) and labels.max() >= num_classes:
        raise ValueError(f"expected labels in [0, {num_classes}), found {labels.max()}.")
    return np.bincount(labels, minlength=num_classes)
