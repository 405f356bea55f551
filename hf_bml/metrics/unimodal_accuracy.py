"""Accuracy of each modality alone: the number that makes an imbalance visible."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import evaluate
import numpy as np
from datasets import Features, List, Value
from numpy.typing import ArrayLike

from .accuracy import accuracy


def unimodal_accuracy(unimodal_logits: dict[str, ArrayLike], labels: ArrayLike) -> dict[str, float]:
    """Accuracy of every modality's own logits.

    Args:
        unimodal_logits: `{modality: (n, classes)}`.
        labels: class numbers, shape (n,).

    Returns:
        `{modality: accuracy in [0, 1]}`, in the order given.

    Raises:
        ValueError: no modality, or input that `accuracy` rejects (the message names the modality).
    """
    if not unimodal_logits:
        raise ValueError("Expected logits of at least one modality, found none. Pass {modality: logits}.")
    return accuracies_alone(unimodal_logits, labels)


def accuracies_alone(
    unimodal_logits: Mapping[str, ArrayLike],
    labels: ArrayLike,
    keep_mask: np.ndarray | None = None,
    score: Callable[[ArrayLike, ArrayLike], float] = accuracy,
) -> dict[str, float]:
    """Accuracy of every modality's own logits over the samples that have it.

    Args:
        unimodal_logits: `{modality: (n, ...)}`.
        labels: class numbers, shape (n, ...).
        keep_mask: bool, shape (n, modalities); None if every sample has all.
        score: from logits and labels to an accuracy.

    Returns:
        `{modality: accuracy in [0, 1]}`, without modalities that no sample has.

    Raises:
        ValueError: input that `score` rejects; the message names the modality.
    """
    result = {}
    for column, (name, logits) in enumerate(unimodal_logits.items()):
        present = ... if keep_mask is None else keep_mask[:, column]
        if keep_mask is not None and not present.any():
            continue
        try:
            result[name] = score(np.asarray(logits)[present], np.asarray(labels)[present])
        except ValueError as error:
            raise ValueError(f"modality {name!r}: {error}") from error
    return result


class UnimodalAccuracy(evaluate.Metric):
    """`unimodal_accuracy` as an `evaluate.Metric` with one input column per modality, plus `references`.

    Inside `evaluate.combine`, feed it with `add_batch(predictions=..., references=..., **unimodal_logits)` and then
    call `compute()` without arguments.

    Args:
        modalities: names of the modalities; any set without "predictions" and "references".
        options: keywords of `evaluate.Metric`, such as `experiment_id` or `keep_in_memory`.

    Raises:
        ValueError: no modality name, or a reserved one.

    Example:
        >>> metric = UnimodalAccuracy(["audio", "visual"])
        >>> metric.compute(audio=[[0.9, 0.1], [0.2, 0.8]], visual=[[0.1, 0.9], [0.3, 0.7]], references=[0, 1])
        {'accuracy_audio': 1.0, 'accuracy_visual': 0.5}
    """

    def __init__(self, modalities: list[str], **options: Any):
        if not modalities or {"predictions", "references"} & set(modalities):
            raise ValueError(
                f"Expected at least one modality name other than 'predictions' and 'references', found {modalities}. "
                "Rename the modality."
            )
        self.modalities = list(modalities)
        super().__init__(**options)

    def _info(self) -> evaluate.MetricInfo:
        columns = {name: List(Value("float64")) for name in self.modalities}
        features = Features({**columns, "references": Value("int64")})
        inputs = "One column per modality: rows of logits; references: classes."
        return evaluate.MetricInfo("Accuracy of each modality's own logits.", "", features, inputs)

    def _compute(
        self, references: ArrayLike, predictions: None = None, **unimodal_logits: ArrayLike
    ) -> dict[str, float]:
        """`predictions` is what `evaluate.combine` passes to all its metrics; it is not used."""
        return {f"accuracy_{name}": value for name, value in unimodal_accuracy(unimodal_logits, references).items()}
