"""Calibration: whether a prediction that is 80 % sure is right in 80 % of the cases (Guo et al. 2017)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import softmax

from ..metrics.validation import validated_scores

BINS = 15


def calibration(logits: ArrayLike, labels: ArrayLike, bins: int = BINS) -> dict[str, Any]:
    """Expected calibration error and the reliability diagram behind it.

    Confidence is the largest softmax probability. Bins have equal width and include their upper end; the error is
    `sum_b n_b / n |accuracy_b - confidence_b|`.

    Args:
        logits: `(n, classes)`.
        labels: `(n,)`.
        bins: how many, >= 1.

    Returns:
        `ece` in [0, 1], and `bins`: for each that is not empty its limits `lower` and `upper`, mean `confidence`,
        `accuracy` and `count`.

    Raises:
        ValueError: `bins` < 1, NaN, no sample, or a label that is not a class.
    """
    if bins < 1:
        raise ValueError(f"bins must be at least 1, found {bins}.")
    logits, labels = validated_scores(logits, labels)
    confidences = softmax(logits, axis=1).max(axis=1)
    right = logits.argmax(axis=1) == labels
    places = np.clip(np.ceil(confidences * bins).astype(int) - 1, 0, bins - 1)
    found, error = [], 0.0
    for place in np.unique(places):
        inside = places == place
        confidence, accuracy, count = confidences[inside].mean(), right[inside].mean(), int(inside.sum())
        error += count / len(labels) * abs(accuracy - confidence)
        found.append(
            {
                "lower": float(place / bins),
                "upper": float((place + 1) / bins),
                "confidence": float(confidence),
                "accuracy": float(accuracy),
                "count": count,
            }
        )
    return {"ece": float(error), "bins": found}
