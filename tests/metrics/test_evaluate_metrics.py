from __future__ import annotations

import socket

import evaluate
import numpy as np
import pytest

from hf_bml.metrics import F1, Accuracy, MeanAveragePrecision, UnimodalAccuracy

LABELS = np.array([0, 0, 1, 2])
SCORES = np.array([[0.7, 0.2, 0.1], [0.3, 0.5, 0.2], [0.2, 0.6, 0.2], [0.5, 0.1, 0.4]])


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("a metric opened a network connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.parametrize(
    ("metric", "key", "expected"),
    [
        (Accuracy, "accuracy", 0.5),
        (MeanAveragePrecision, "mean_average_precision", 17 / 18),
        (F1, "f1_weighted", 5 / 12),
    ],
)
def test_compute_and_batches_agree(metric, key, expected):
    assert metric().compute(predictions=SCORES, references=LABELS)[key] == pytest.approx(expected)
    batched = metric()
    batched.add_batch(predictions=SCORES[:3], references=LABELS[:3])
    batched.add_batch(predictions=SCORES[3:], references=LABELS[3:])
    assert batched.compute()[key] == pytest.approx(expected)


def test_classes_are_accepted_where_they_make_sense():
    predictions = SCORES.argmax(axis=1)
    assert Accuracy().compute(predictions=predictions, references=LABELS) == {"accuracy": 0.5}
    assert F1().compute(predictions=predictions, references=LABELS)["f1_weighted"] == pytest.approx(5 / 12)


@pytest.mark.parametrize("modalities", [["audio"], ["rgb", "flow", "difference"]])
def test_unimodal_accuracy_for_any_names(modalities):
    metric = UnimodalAccuracy(modalities)
    for rows in (slice(0, 2), slice(2, 4)):
        metric.add_batch(**dict.fromkeys(modalities, SCORES[rows]), references=LABELS[rows])
    assert metric.compute() == {f"accuracy_{name}": 0.5 for name in modalities}


@pytest.mark.parametrize("modalities", [[], ["audio", "references"]])
def test_invalid_modality_names(modalities):
    with pytest.raises(ValueError, match="at least one modality name"):
        UnimodalAccuracy(modalities)


def test_combine():
    expected = {"accuracy": 0.5, "mean_average_precision": 17 / 18, "mean_average_precision_classes": 3}
    combined = evaluate.combine([Accuracy(), MeanAveragePrecision()])
    assert combined.compute(predictions=SCORES, references=LABELS) == pytest.approx(expected)
    combined = evaluate.combine([Accuracy(), UnimodalAccuracy(["audio", "visual"])])
    combined.add_batch(predictions=SCORES, references=LABELS, audio=SCORES, visual=np.eye(3)[LABELS])
    assert combined.compute() == {"accuracy": 0.5, "accuracy_audio": 0.5, "accuracy_visual": 1.0}
