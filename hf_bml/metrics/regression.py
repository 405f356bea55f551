"""Metrics of models that predict numbers, and those that users of sentiment scores report."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import ArrayLike
from transformers import EvalPrediction

from .f1 import f1_score
from .unimodal_accuracy import accuracies_alone
from .validation import split_predictions


def validated_numbers(predictions: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and labels as float64 (n, numbers).

    Raises:
        ValueError: empty input, differing shapes, or a value that is not finite.
    """
    predictions, labels = np.asarray(predictions, np.float64), np.asarray(labels, np.float64)
    if labels.size == 0 or predictions.size != labels.size or len(predictions) != len(labels):
        raise ValueError(
            f"Expected as many predictions as labels, n >= 1, found the shapes {predictions.shape} and {labels.shape}."
        )
    for what, values in (("predictions", predictions), ("labels", labels)):
        if not np.isfinite(values).all():
            raise ValueError(f"Expected finite {what}, found NaN or infinity. Check whether training diverged.")
    return predictions.reshape(len(labels), -1), labels.reshape(len(labels), -1)


def mean_absolute_error(predictions: ArrayLike, labels: ArrayLike) -> float:
    """Mean of `|prediction - label|`, in the labels' units; arguments as of `validated_numbers`."""
    predictions, labels = validated_numbers(predictions, labels)
    return float(np.abs(predictions - labels).mean())


def correlation(predictions: ArrayLike, labels: ArrayLike) -> float:
    """Pearson's correlation, in [-1, 1], of several numbers a sample the mean over them; 0 where either is constant.

    Example:
        >>> round(correlation([1.0, 2.0, 4.0], [1.0, 2.0, 3.0]), 4)
        0.982
    """
    predictions, labels = validated_numbers(predictions, labels)
    first, second = predictions - predictions.mean(0), labels - labels.mean(0)
    scale = np.sqrt((first**2).sum(0) * (second**2).sum(0))
    products = (first * second).sum(0)
    return float(np.divide(products, scale, out=np.zeros_like(products), where=scale > 0).mean())


def regression_metrics(eval_prediction: EvalPrediction) -> dict[str, float]:
    """Joint and uni-modal metrics of a regression, for `Trainer(compute_metrics=...)`.

    Args:
        eval_prediction: `label_ids` of shape (n,) or (n, numbers), and `predictions` in the same units: of shape (n,
            numbers), or a tuple of these, `{modality: (n, numbers)}` and optionally a bool keep mask (n, modalities).

    Returns:
        flat floats: `mae` and `rmse`, the mean absolute and the root of the mean squared error, in the labels' units;
        `correlation`, Pearson's; `mae_<modality>` and `correlation_<modality>` over the samples that have it.

    Raises:
        ValueError: see `validated_numbers`, or another form of `predictions`.
    """
    values, unimodal, keep_mask = split_predictions(eval_prediction.predictions)
    predictions, labels = validated_numbers(values, eval_prediction.label_ids)
    metrics = {
        "mae": mean_absolute_error(predictions, labels),
        "rmse": float(np.sqrt(((predictions - labels) ** 2).mean())),
        "correlation": correlation(predictions, labels),
    }
    alone = partial(accuracies_alone, unimodal, labels, keep_mask)
    for name, score in (("mae", mean_absolute_error), ("correlation", correlation)):
        metrics |= {f"{name}_{modality}": value for modality, value in alone(score).items()}
    return metrics


def sentiment_metrics(predictions: ArrayLike, labels: ArrayLike) -> dict[str, float]:
    """What users of CMU-MOSI and CMU-MOSEI report of sentiment from -3 (strongly negative) to 3.

    Args:
        predictions: shape (n,) or (n, 1).
        labels: the same, raw scores; a release that has the sign alone allows the two accuracies of two classes only.

    Returns:
        `mae`, `correlation`; `acc_7`, both rounded to whole numbers in [-3, 3]; `acc_2` and `f1_2` (weighted) of
        negative against positive, without the samples labelled 0 (absent if all are); `acc_2_nonnegative` and
        `f1_2_nonnegative` of negative against the rest.

    Raises:
        ValueError: see `validated_numbers`.

    Example:
        >>> found = sentiment_metrics([-2.4, 0.2, 1.0, 3.9], [-2.0, 0.0, -0.4, 3.0])
        >>> found["acc_7"], round(found["acc_2"], 4), found["acc_2_nonnegative"]
        (0.75, 0.6667, 0.75)
    """
    predictions, labels = (values.ravel() for values in validated_numbers(predictions, labels))
    seven = [np.rint(values.clip(-3, 3)) for values in (predictions, labels)]
    found = {
        "mae": mean_absolute_error(predictions, labels),
        "correlation": correlation(predictions, labels),
        "acc_7": float((seven[0] == seven[1]).mean()),
    }
    signs = {
        "": (predictions[labels != 0] > 0, labels[labels != 0] > 0),
        "_nonnegative": (predictions >= 0, labels >= 0),
    }
    for ending, (said, true) in signs.items():
        if len(true):
            found[f"acc_2{ending}"] = float((said == true).mean())
            found[f"f1_2{ending}"] = f1_score(said.astype(np.int64), true.astype(np.int64))
    return found
