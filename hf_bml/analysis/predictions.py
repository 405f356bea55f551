"""What the analyses start from: one row per prediction, for any shape of the model's outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from ..ground.task import UNLABELLED
from ..metrics.validation import validated_scores


@dataclass
class Predictions:
    """A model's outputs on a split; a row is a sample or, for a model that labels segments, a segment.

    Attributes:
        labels: int64 `(rows,)`.
        logits: float64 `(rows, classes)`.
        samples: int64 `(rows,)`, the sample that each row belongs to, counted from 0.
        unimodal_logits: per modality float64 `(rows, classes)`.
        present: per modality bool `(rows,)`, whether the sample has it.
        features: per modality `(rows, dim)`; empty where none were asked for.
    """

    labels: np.ndarray
    logits: np.ndarray
    samples: np.ndarray
    unimodal_logits: dict[str, np.ndarray] = field(default_factory=dict)
    present: dict[str, np.ndarray] = field(default_factory=dict)
    features: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def correct(self) -> np.ndarray:
        """Whether the joint prediction is right, bool `(rows,)`."""
        return self.logits.argmax(axis=1) == self.labels


def as_predictions(
    labels: ArrayLike,
    logits: ArrayLike,
    unimodal_logits: Mapping[str, ArrayLike] | None = None,
    keep_mask: ArrayLike | None = None,
    features: Mapping[str, ArrayLike] | None = None,
) -> Predictions:
    """Outputs of a split as rows.

    Args:
        labels: `(n,)`, or `(n, segments)`; segments labelled -100 are left out.
        logits: `(n, classes)`, or `(n, segments, classes)`.
        unimodal_logits: per modality, as `logits`.
        keep_mask: bool `(n, modalities)` in the order of `unimodal_logits`; default: nothing is absent.
        features: per modality `(n, dim)`, or `(n, segments, dim)`.

    Raises:
        ValueError: other shapes, NaN in logits, no sample, or a label that is not a class.
    """
    labels, logits = np.asarray(labels), np.asarray(logits)
    if labels.ndim not in (1, 2) or logits.shape[:-1] != labels.shape:
        raise ValueError(
            "expected labels (n,) with logits (n, classes), or labels (n, segments) with logits (n, segments, classes)"
            f"; found labels {labels.shape} with logits {logits.shape}."
        )
    segments = labels.shape[1] if labels.ndim == 2 else 1
    counted = labels.reshape(-1) != UNLABELLED
    samples = np.repeat(np.arange(len(labels)), segments)[counted]

    def rows(values: ArrayLike, what: str) -> np.ndarray:
        values = np.asarray(values)
        if values.ndim != labels.ndim + 1 or values.shape[:-1] != labels.shape:
            raise ValueError(
                f"expected {what} with one row per label, labels {labels.shape}, found {values.shape}. This analysis "
                "cannot be made of them."
            )
        return values.reshape(-1, values.shape[-1])[counted]

    flat_logits, flat_labels = validated_scores(rows(logits, "logits"), labels.reshape(-1)[counted])
    unimodal = {}
    for name, values in (unimodal_logits or {}).items():
        unimodal[name] = validated_scores(rows(values, f"unimodal logits of {name!r}"), flat_labels)[0]
    if keep_mask is None:
        keep_mask = np.ones((len(labels), len(unimodal)), dtype=bool)
    keep_mask = np.asarray(keep_mask, dtype=bool)[samples]
    return Predictions(
        labels=flat_labels,
        logits=flat_logits,
        samples=samples,
        unimodal_logits=unimodal,
        present={name: keep_mask[:, column] for column, name in enumerate(unimodal)},
        features={name: rows(values, f"features of {name!r}") for name, values in (features or {}).items()},
    )
