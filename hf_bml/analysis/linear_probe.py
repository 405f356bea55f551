"""Linear probe: how well an encoder's frozen features can be classified (paper Fig. 1, footnote 1).

The features of the training split, computed once by the encoder in eval mode, train a new linear classifier, which is
tested on the features of another split. The paper gives no settings; the defaults here are ours. They are fixed, so
nothing is selected, and encoders of all methods are measured alike.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from ..metrics import accuracy
from ..metrics.validation import validated_labels

METHODS = ("sgd", "logistic")


@dataclass(frozen=True)
class ProbeSettings:
    """Settings of the probe.

    Args:
        method: `sgd`, a linear layer from zero by SGD with momentum, or `logistic`, scikit-learn's L2-regularised
            logistic regression (lbfgs, at most 1000 iterations).
        standardise: whether features are first brought to mean 0 and standard deviation 1 over the training split, so
            that the probe does not depend on their scale.
        learning_rate, momentum, epochs, batch_size: of `sgd`; the learning rate is constant.
        l2: of `logistic`, the strength of its regularisation, 1 / C.
        seed: of the order of the samples.

    Raises:
        ValueError: a value out of its range.
    """

    method: str = field(default="sgd", metadata={"help": f"How the probe is fitted: {', '.join(METHODS)}."})
    standardise: bool = field(
        default=True, metadata={"help": "Bring features to mean 0 and deviation 1 over the training split."}
    )
    learning_rate: float = field(default=1e-2, metadata={"help": "Learning rate of sgd."})
    momentum: float = field(default=0.9, metadata={"help": "Momentum of sgd, in [0, 1)."})
    epochs: int = field(default=50, metadata={"help": "Epochs of sgd."})
    batch_size: int = field(default=256, metadata={"help": "Batch size of sgd."})
    l2: float = field(default=1.0, metadata={"help": "Strength of the regularisation of logistic, 1 / C."})
    seed: int = field(default=0, metadata={"help": "Seed of the order of the samples in sgd."})

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, found {self.method!r}.")
        for name in ("learning_rate", "epochs", "batch_size", "l2"):
            if not vars(self)[name] > 0:
                raise ValueError(f"{name} must be greater than 0, found {vars(self)[name]}.")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must lie in [0, 1), found {self.momentum}.")


def probe_accuracy(
    train_features: ArrayLike,
    train_labels: ArrayLike,
    test_features: ArrayLike,
    test_labels: ArrayLike,
    settings: ProbeSettings | None = None,
) -> float:
    """Fits a probe on the training split and returns its accuracy on the other, in [0, 1].

    The global random states are neither used nor changed.

    Args:
        train_features: `(n, dim)`.
        train_labels: `(n,)`.
        test_features: `(k, dim)`.
        test_labels: `(k,)`.
        settings: default `ProbeSettings()`.

    Raises:
        ValueError: other shapes, features that are not finite, or a single class in the training split.
    """
    settings = settings or ProbeSettings()
    train_features, train_labels = checked("train", train_features, train_labels)
    test_features, test_labels = checked("test", test_features, test_labels)
    if train_features.shape[1] != test_features.shape[1]:
        raise ValueError(
            f"expected train and test features of one size, found {train_features.shape[1]} and "
            f"{test_features.shape[1]}."
        )
    if len(np.unique(train_labels)) < 2:
        raise ValueError(f"a probe needs two or more classes in the training split, found {np.unique(train_labels)}.")
    if settings.standardise:
        mean, deviation = train_features.mean(axis=0), train_features.std(axis=0)
        deviation[deviation == 0] = 1
        train_features, test_features = (train_features - mean) / deviation, (test_features - mean) / deviation
    if settings.method == "logistic":
        classifier = LogisticRegression(C=1 / settings.l2, max_iter=1000).fit(train_features, train_labels)
        return accuracy(classifier.predict(test_features), test_labels)
    layer = fit_linear_layer(
        torch.as_tensor(train_features, dtype=torch.float32), torch.as_tensor(train_labels), settings
    )
    with torch.no_grad():
        predicted = layer(torch.as_tensor(test_features, dtype=torch.float32)).argmax(dim=1)
    return accuracy(predicted.numpy(), test_labels)


def fit_linear_layer(features: Tensor, labels: Tensor, settings: ProbeSettings) -> nn.Linear:
    """Cross-entropy and SGD from zero weights, where this convex problem has no better place to start.

    Args:
        features: float `(n, dim)`.
        labels: int64 `(n,)`.
        settings: `learning_rate`, `momentum`, `epochs`, `batch_size`, `seed`.

    Returns:
        a layer from dim to the largest label + 1.
    """
    layer = nn.utils.skip_init(nn.Linear, features.shape[1], int(labels.max()) + 1, device=features.device)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimizer = torch.optim.SGD(layer.parameters(), lr=settings.learning_rate, momentum=settings.momentum)
    generator = torch.Generator().manual_seed(settings.seed)
    for _ in range(settings.epochs):
        for batch in torch.randperm(len(features), generator=generator).split(settings.batch_size):
            loss = nn.functional.cross_entropy(layer(features[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return layer


def checked(split: str, features: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Features as float64 `(n, dim)` and labels as int64 `(n,)`; ValueError for anything else."""
    features = np.asarray(features, dtype=np.float64)
    labels = validated_labels(labels)
    if features.ndim != 2 or len(features) != len(labels):
        raise ValueError(
            f"expected {split} features (n, dim) and labels (n,), found {features.shape} and {labels.shape}."
        )
    if not np.isfinite(features).all():
        raise ValueError(f"expected finite {split} features, found NaN or infinity. Check whether training diverged.")
    return features, labels
