"""How far a modality's features lie from those of training, and votes that count less the farther they lie.

Nothing is learned: there are means and a covariance of training features, and a quantile on clean validation. Where
the joint logits are the sum of the modalities' shares `s^m`, these become `w^m (s^m - a^m) + a^m`, with `a^m` the
share of an absent modality, such as its part of the bias, and `w^m = min(1, d80 / d^m)^2`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist
from sklearn.covariance import shrunk_covariance

from .predictions import Predictions

SHRINKAGE = 0.1  # of the covariance to a multiple of the unit matrix
QUANTILE = 0.8


@dataclass(frozen=True)
class Trust:
    """What is known of a modality's features.

    Attributes:
        means: of each training class, float64 `(classes, dim)`.
        precision: inverse of the covariance within classes, `(dim, dim)`.
        usual: d80, the distance within which `QUANTILE` of clean validation lies.
    """

    means: np.ndarray
    precision: np.ndarray
    usual: float = np.inf

    def distances(self, features: ArrayLike) -> np.ndarray:
        """Mahalanobis distance of features `(rows, dim)` to the nearest class mean, `(rows,)`."""
        return cdist(np.asarray(features, dtype=float), self.means, "mahalanobis", VI=self.precision).min(axis=1)

    def weights(self, features: ArrayLike) -> np.ndarray:
        """`min(1, d80 / d)^2` of features `(rows, dim)`: `(rows,)` in (0, 1]."""
        distances = self.distances(features)
        weights = np.ones(len(distances))
        np.divide(self.usual, distances, out=weights, where=distances > self.usual)
        return weights**2


def fit_trust(features: ArrayLike, labels: ArrayLike, clean: ArrayLike) -> Trust:
    """What to trust a modality by.

    Args:
        features: of training samples, `(n, dim)`.
        labels: theirs, `(n,)`.
        clean: features of other samples, `(k, dim)`.

    Raises:
        ValueError: features that are not finite, or none.
    """
    features, clean = np.asarray(features, dtype=float), np.asarray(clean, dtype=float)
    if not len(features) or not len(clean) or not np.isfinite(features).all() or not np.isfinite(clean).all():
        raise ValueError(f"expected finite features, found {features.shape} and {clean.shape}, or NaN in them.")
    classes, numbers = np.unique(labels, return_inverse=True)
    means = np.stack([features[numbers == number].mean(axis=0) for number in range(len(classes))])
    centred = features - means[numbers]
    covariance = shrunk_covariance(centred.T @ centred / len(features), SHRINKAGE)
    known = Trust(means, np.linalg.pinv(covariance, hermitian=True))
    return replace(known, usual=float(np.quantile(known.distances(clean), QUANTILE)))


def with_trust(found: Predictions, trust: Mapping[str, Trust], absent: Mapping[str, ArrayLike]) -> Predictions:
    """What is predicted if modalities far from training count less; samples with a single modality stay as they are.

    Args:
        found: with features, and with unimodal logits that sum to the logits where more than one modality is present.
        trust: by modality; others stay as they are.
        absent: each modality's share of the logits where a sample lacks it, `(classes,)`.
    """
    several = sum(known.astype(int) for known in found.present.values()) > 1
    logits, unimodal = found.logits.copy(), dict(found.unimodal_logits)
    for modality, known in trust.items():
        weighted = several & found.present[modality]
        vote = found.unimodal_logits[modality][weighted] - np.asarray(absent[modality])
        change = (known.weights(found.features[modality][weighted])[:, None] - 1) * vote
        unimodal[modality] = unimodal[modality].copy()
        unimodal[modality][weighted] += change
        logits[weighted] += change
    return replace(found, logits=logits, unimodal_logits=unimodal)
