"""Confusion matrix of the joint predictions."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import confusion_matrix

from ..metrics.validation import predicted_classes


def confusion(logits_or_predictions: ArrayLike, labels: ArrayLike, num_classes: int) -> np.ndarray:
    """How often each class is taken for each.

    Args:
        logits_or_predictions: `(n, classes)`, or predicted classes `(n,)`.
        labels: `(n,)`.
        num_classes: how many classes there are; those that do not occur have empty rows.

    Returns:
        int64 `(num_classes, num_classes)`, rows are the true classes, columns the predicted ones.

    Raises:
        ValueError: input that `accuracy` rejects.
    """
    predictions, labels = predicted_classes(logits_or_predictions, labels)
    return confusion_matrix(labels, predictions, labels=np.arange(num_classes))
