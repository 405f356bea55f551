from __future__ import annotations

import doctest
import importlib
from types import SimpleNamespace

import numpy as np
import pytest
import sklearn.metrics
from scipy.special import softmax

from hf_bml.metrics import accuracy, classification_metrics, f1_score, mean_average_precision, unimodal_accuracy

# T-G1 to T-G4 of the method reference.
G1_LABELS, G1_FIRST = np.array([0, 0, 1, 1]), np.array([0.9, 0.4, 0.2, 0.45])
G1_SCORES = np.stack([G1_FIRST, 1 - G1_FIRST], axis=1)
G2_LABELS = np.array([0, 0, 1, 2])
G2_SCORES = np.array([[0.7, 0.2, 0.1], [0.3, 0.5, 0.2], [0.2, 0.6, 0.2], [0.5, 0.1, 0.4]])
G3_LABELS, G3_PREDICTIONS = np.array([1, 1, 1, 0, 0]), np.array([1, 1, 0, 0, 1])


def naive_average_precision(positive, scores):
    """Walk down the ranking, one threshold per distinct score: sum of recall gain times precision."""
    total, previous_recall = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        chosen = [is_positive for is_positive, score in zip(positive, scores, strict=True) if score >= threshold]
        recall = sum(chosen) / sum(positive)
        total += (recall - previous_recall) * sum(chosen) / len(chosen)
        previous_recall = recall
    return total


def test_two_classes():
    """T-G1."""
    precisions = [naive_average_precision(np.equal(G1_LABELS, c), G1_SCORES[:, c]) for c in range(2)]
    assert precisions == pytest.approx([0.833333, 0.833333], abs=1e-6)
    assert mean_average_precision(G1_SCORES, G1_LABELS) == (pytest.approx(0.833333, abs=1e-6), 2)
    assert accuracy(G1_SCORES, G1_LABELS) == 0.75


def test_three_classes():
    """T-G2."""
    precisions = [naive_average_precision(np.equal(G2_LABELS, c), G2_SCORES[:, c]) for c in range(3)]
    assert precisions == pytest.approx([0.833333, 1, 1], abs=1e-6)
    assert mean_average_precision(G2_SCORES, G2_LABELS) == (pytest.approx(0.944444, abs=1e-6), 3)
    assert accuracy(G2_SCORES, G2_LABELS) == 0.5


def test_f1_values():
    """T-G3."""
    assert f1_score(G3_PREDICTIONS, G3_LABELS, "binary") == pytest.approx(0.666667, abs=1e-6)
    assert f1_score(G3_PREDICTIONS, G3_LABELS) == pytest.approx(0.6)
    assert f1_score(G3_PREDICTIONS, G3_LABELS, "macro") == pytest.approx(0.583333, abs=1e-6)
    assert accuracy(G3_PREDICTIONS, G3_LABELS) == pytest.approx(0.6)


@pytest.mark.filterwarnings("ignore:No positive class found")
def test_absent_class_is_left_out():
    """T-G4: scikit-learn counts the third class as 0."""
    scores, labels = np.array([[0.8, 0.1, 0.1], [0.7, 0.2, 0.1], [0.1, 0.8, 0.1]]), [0, 0, 1]
    assert mean_average_precision(scores, labels) == (1.0, 2)
    one_hot = np.eye(3)[labels]
    assert sklearn.metrics.average_precision_score(one_hot, scores, average=None).tolist() == [1, 1, 0]
    macro = sklearn.metrics.average_precision_score(one_hot, scores, average="macro")
    assert macro == pytest.approx(0.666667, abs=1e-6)


def test_f1_of_a_class_that_occurs_nowhere_or_is_never_right():
    assert f1_score([[0.9, 0.1, 0.0], [0.1, 0.9, 0.0]], [0, 1], "macro") == 1  # the third class is left out
    assert f1_score([0, 0], [0, 1], "macro") == pytest.approx((2 / 3 + 0) / 2)
    assert f1_score([0, 0], [0, 0], "binary") == 0


@pytest.mark.parametrize("num_classes", [2, 5])
def test_equals_references_on_random_input(num_classes):
    generator = np.random.default_rng(num_classes)
    scores = generator.normal(size=(60, num_classes)).round(1)
    labels = generator.integers(0, num_classes, 60)
    naive = np.mean([naive_average_precision(labels == c, scores[:, c]) for c in range(num_classes)])
    value, present = mean_average_precision(scores, labels)
    assert value == pytest.approx(naive) and present == num_classes
    one_hot = np.eye(num_classes)[labels]
    assert value == pytest.approx(sklearn.metrics.average_precision_score(one_hot, scores, average="macro"))
    predicted = scores.argmax(axis=1)
    assert accuracy(scores, labels) == accuracy(predicted, labels) == np.mean([*(predicted == labels)])
    f1_per_class = [
        2 * np.sum((predicted == c) & (labels == c)) / (np.sum(predicted == c) + np.sum(labels == c))
        for c in range(num_classes)
    ]
    assert f1_score(scores, labels) == pytest.approx(np.average(f1_per_class, weights=np.bincount(labels)))
    assert f1_score(scores, labels, "macro") == pytest.approx(np.mean(f1_per_class))
    if num_classes == 2:
        assert f1_score(scores, labels, "binary") == pytest.approx(f1_per_class[1])


def test_unimodal_accuracy():
    logits = {"audio": G2_SCORES, "visual": np.eye(3)[G2_LABELS], "text": -np.eye(3)[G2_LABELS]}
    assert unimodal_accuracy(logits, G2_LABELS) == {"audio": 0.5, "visual": 1.0, "text": 0.0}
    with pytest.raises(ValueError, match="at least one modality"):
        unimodal_accuracy({}, G2_LABELS)
    with pytest.raises(ValueError, match="modality 'audio': Expected scores without NaN"):
        unimodal_accuracy({"audio": np.full((4, 3), np.nan)}, G2_LABELS)


def test_classification_metrics():
    logits = np.log(G2_SCORES)
    unimodal = {"audio": G2_SCORES, "visual": np.eye(3)[G2_LABELS]}
    metrics = classification_metrics(SimpleNamespace(predictions=(logits, unimodal), label_ids=G2_LABELS))
    assert list(metrics) == [
        "accuracy",
        "mean_average_precision",
        "mean_average_precision_classes",
        "f1_weighted",
        "accuracy_audio",
        "accuracy_visual",
    ]
    assert all(type(value) is float for value in metrics.values())
    assert metrics["mean_average_precision"] == pytest.approx(0.944444, abs=1e-6)
    assert metrics["mean_average_precision_classes"] == 3.0
    assert (metrics["accuracy_audio"], metrics["accuracy_visual"]) == (0.5, 1.0)


@pytest.mark.parametrize("wrap", [lambda logits: logits, lambda logits: (logits,), lambda logits: (logits, {})])
def test_classification_metrics_of_joint_logits(wrap):
    metrics = classification_metrics(SimpleNamespace(predictions=wrap(np.log(G1_SCORES)), label_ids=G1_LABELS))
    assert metrics["mean_average_precision"] == pytest.approx(0.833333, abs=1e-6)
    assert metrics["f1_binary"] == f1_score(G1_SCORES, G1_LABELS, "binary")
    assert not any(key.startswith("accuracy_") for key in metrics)


def test_probabilities_are_computed_in_float64():
    """In float32 both probabilities of class 0 round to 1 and tie; float64 keeps their order."""
    logits, labels = np.array([[20.0, 0.0], [18.0, 0.0]], np.float32), np.array([0, 1])
    assert len(set(softmax(logits, axis=1)[:, 0])) == 1
    metrics = classification_metrics(SimpleNamespace(predictions=logits, label_ids=labels))
    assert metrics["mean_average_precision"] == 1.0


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        (np.zeros((0, 3)), [], r"n >= 1, found shape \(0, 3\)"),
        (np.zeros(3), [0, 1, 2], r"shape \(n, classes\)"),
        (np.zeros((2, 3)), [0, 3], r"labels in \[0, 3\), found 3"),
        (np.zeros((2, 3)), [0, -1], r"labels in \[0, 3\), found -1"),
        (np.zeros((2, 3)), [0.0, 1.0], "integer labels, found float64"),
        (np.zeros((2, 3)), [0], "2 predictions and 1 labels"),
        ([[0.0, 1.0], [np.nan, 0.0]], [0, 1], "found NaN in row 1"),
    ],
)
def test_invalid_input(scores, labels, message):
    with pytest.raises(ValueError, match=message):
        mean_average_precision(scores, labels)
    with pytest.raises(ValueError, match=message):
        classification_metrics(SimpleNamespace(predictions=scores, label_ids=labels))


def test_invalid_predictions_and_averages():
    with pytest.raises(ValueError, match="n >= 1"):
        accuracy([], [])
    with pytest.raises(ValueError, match="1 predictions and 2 labels"):
        accuracy([0], [0, 1])
    with pytest.raises(ValueError, match=r"found 3\. Use average='weighted'"):
        f1_score(G2_SCORES, G2_LABELS, "binary")
    with pytest.raises(ValueError, match="found 3"):
        f1_score([0, 2], [0, 1], "binary")
    with pytest.raises(ValueError, match="found 'micro'"):
        f1_score([0], [0], "micro")
    with pytest.raises(ValueError, match="keys_to_ignore_at_inference"):
        classification_metrics(SimpleNamespace(predictions=(G1_SCORES, G1_SCORES), label_ids=G1_LABELS))


@pytest.mark.parametrize("name", ["accuracy", "mean_average_precision", "f1", "unimodal_accuracy"])
def test_docstring_examples(name):
    results = doctest.testmod(importlib.import_module(f"hf_bml.metrics.{name}"))
    assert results.attempted > 0 and results.failed == 0


def test_samples_without_a_label_count_in_nothing():
    logits, labels = np.array([[2.0, 0.0], [0.0, 2.0], [0.0, 2.0]]), np.array([0, 1, -100])
    alone, keep = {"audio": -logits}, np.ones((3, 1), bool)
    found = classification_metrics(SimpleNamespace(predictions=(logits, alone, keep), label_ids=labels))
    assert found["accuracy"] == 1.0 and found["accuracy_audio"] == 0.0
    soft = classification_metrics(
        SimpleNamespace(predictions=logits[:2], label_ids=np.array([[0.9, 0.1], [0.4, 0.6]]))
    )
    assert soft["accuracy"] == 1.0
