"""What the evaluation of a multimodal model yields, for metrics that know logits only and for those that know more."""

from __future__ import annotations

from typing import Any

import numpy as np


class JointPredictions(tuple):
    """The joint logits and what else a model predicts, as `Trainer.predict` and `compute_metrics` get them.

    A tuple of logits, `{modality: logits}`, keep mask, ...; where an array is expected, the joint logits: NumPy takes
    it for them, and it has their attributes, such as `argmax` and `shape`. Index and length are those of the tuple.

    Example:
        >>> predictions = JointPredictions((np.array([[0.1, 0.9]]), {"audio": np.array([[0.8, 0.2]])}))
        >>> np.argmax(predictions, axis=-1), predictions.shape
        (array([1]), (1, 2))
        >>> logits, unimodal_logits = predictions
    """

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self[0], dtype=dtype) if copy else np.asarray(self[0], dtype=dtype)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self[0], name)
