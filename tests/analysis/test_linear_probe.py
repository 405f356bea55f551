from __future__ import annotations

import numpy as np
import pytest
import torch

from hf_bml.analysis.linear_probe import ProbeSettings, fit_linear_layer, probe_accuracy

METHODS = ["sgd", "logistic"]


def separable(samples, seed, classes=4, scale=1.0):
    """Unit vectors of the class, with little noise, and an idle column."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(classes, size=samples)
    features = np.eye(classes + 1)[labels] + 0.05 * generator.normal(size=(samples, classes + 1))
    features[:, classes] = 1.0
    return scale * features, labels


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scale", [1.0, 1e-4, 1e4])
def test_separable_features_are_told_apart_at_any_scale(method, scale):
    settings = ProbeSettings(method=method)
    assert probe_accuracy(*separable(200, 0, scale=scale), *separable(100, 1, scale=scale), settings) == 1.0


@pytest.mark.parametrize("method", METHODS)
def test_shuffled_labels_are_guessed(method):
    features, labels = separable(400, 0)
    shuffled = np.random.default_rng(5).permutation(labels)
    found = probe_accuracy(features, shuffled, *separable(400, 1), ProbeSettings(method=method))
    assert found < 0.5  # chance is 0.25, and four clusters fall on one side or the other together


def test_features_without_information_are_guessed():
    generator = np.random.default_rng(0)
    train, test = generator.normal(size=(600, 8)), generator.normal(size=(600, 8))
    labels = generator.integers(4, size=(2, 600))
    assert probe_accuracy(train, labels[0], test, labels[1]) == pytest.approx(0.25, abs=0.06)


def test_one_step_by_hand():
    """From zero weights the softmax of two classes is 1/2: the gradient of the logits is (1/2 - onehot) / n.

    Features 1 and 3 of classes 0 and 1: dW = ((-0.5 * 1 + 0.5 * 3) / 2, ...) = (0.5, -0.5), db = 0.
    """
    settings = ProbeSettings(epochs=1, learning_rate=0.1)
    layer = fit_linear_layer(torch.tensor([[1.0], [3.0]]), torch.tensor([0, 1]), settings)
    assert layer.weight.detach().flatten().tolist() == pytest.approx([-0.05, 0.05])
    assert layer.bias.detach().tolist() == pytest.approx([0.0, 0.0])


def test_seeded_and_without_the_global_streams():
    features, labels = separable(300, 0)
    features = torch.as_tensor(features, dtype=torch.float32)
    state = torch.get_rng_state()
    first, same, other = (
        fit_linear_layer(features, torch.as_tensor(labels), ProbeSettings(seed=seed, epochs=1, batch_size=32)).weight
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, same) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_class_that_training_lacks_is_wrong():
    train, labels = separable(200, 0)
    assert probe_accuracy(train, labels, train[:4], np.array([4, 4, 4, labels[3]])) == 0.25


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "svm"}, "sgd, logistic, found 'svm'"),
        ({"learning_rate": 0.0}, "learning_rate must be greater than 0"),
        ({"epochs": 0}, "epochs must be greater than 0"),
        ({"momentum": 1.0}, r"momentum must lie in \[0, 1\), found 1.0"),
        ({"l2": -1.0}, "l2 must be greater than 0"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ValueError, match=message):
        ProbeSettings(**options)


def test_bad_features():
    features, labels = np.ones((4, 2)), np.array([0, 1, 0, 1])
    with pytest.raises(ValueError, match="two or more classes"):
        probe_accuracy(features, np.zeros(4, dtype=int), features, labels)
    with pytest.raises(ValueError, match="one size, found 2 and 1"):
        probe_accuracy(features, labels, features[:, :1], labels)
    with pytest.raises(ValueError, match="finite test features"):
        probe_accuracy(features, labels, features * np.nan, labels)
    with pytest.raises(ValueError, match=r"found \(4, 2\) and \(3,\)"):
        probe_accuracy(features, labels[:3], features, labels)
