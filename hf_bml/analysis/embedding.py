"""t-SNE: a picture of each modality's features (van der Maaten and Hinton 2008)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike
from sklearn.manifold import TSNE

MAX_POINTS = 1000
MIN_POINTS = 4
PERPLEXITY = 30.0


def subsample(count: int, limit: int, seed: int) -> np.ndarray:
    """At most `limit` of `count` rows, drawn without replacement, in ascending order, int64 `(min(count, limit),)`."""
    if count <= limit:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, limit, replace=False))


def tsne(features: ArrayLike, seed: int = 0, perplexity: float = PERPLEXITY) -> np.ndarray:
    """Two-dimensional t-SNE of scikit-learn, float64 `(n, 2)`.

    Distances between clusters and their sizes mean nothing in it; axes have no unit.

    Args:
        features: `(n, dim)`, n >= 4.
        seed: of the embedding.
        perplexity: lowered to `(n - 1) / 3` for few samples.

    Raises:
        ValueError: fewer than 4 samples, or features that are not finite.
    """
    features = np.asarray(features, dtype=np.float64)
    if features.ndim != 2 or len(features) < MIN_POINTS:
        raise ValueError(f"t-SNE needs features (n, dim) of n >= {MIN_POINTS} samples, found shape {features.shape}.")
    if not np.isfinite(features).all():
        raise ValueError("t-SNE needs finite features, found NaN or infinity.")
    spread = features.std(axis=0).max() > 0 and features.shape[1] > 1  # else principal components do not exist
    method = TSNE(
        perplexity=min(perplexity, (len(features) - 1) / 3), init="pca" if spread else "random", random_state=seed
    )
    return method.fit_transform(features).astype(np.float64)


def embed_modalities(
    features: Mapping[str, np.ndarray],
    labels: np.ndarray,
    present: Mapping[str, np.ndarray],
    limit: int = MAX_POINTS,
    seed: int = 0,
) -> dict[str, list[list[float]]]:
    """t-SNE of each modality's features, of the same rows for every modality.

    Args:
        features: per modality `(n, dim)`.
        labels: `(n,)`.
        present: per modality bool `(n,)`; rows without it are left out of its picture.
        limit: at most so many rows.
        seed: of subsample and embedding.

    Returns:
        per modality `[x, y, label]` of every shown row; a modality with fewer than 4 rows is left out.
    """
    chosen = subsample(len(labels), limit, seed)
    pictures = {}
    for name, values in features.items():
        rows = chosen[present[name][chosen]]
        if len(rows) >= MIN_POINTS:
            points = tsne(values[rows], seed)
            pictures[name] = [[float(x), float(y), int(k)] for (x, y), k in zip(points, labels[rows], strict=True)]
    return pictures
