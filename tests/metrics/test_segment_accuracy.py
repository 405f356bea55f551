from __future__ import annotations

import numpy as np
import pytest
from transformers import EvalPrediction

from hf_bml.metrics import event_accuracy, segment_accuracy, segment_classification_metrics

LABELS = np.array([[0, 0, 2], [2, 1, 1]])
PREDICTED = np.array([[0, 1, 2], [2, 1, 2]])  # 4 of 6; of the events 2 of 4
LOGITS = np.eye(3)[PREDICTED]


def test_by_hand():
    assert segment_accuracy(LOGITS, LABELS) == pytest.approx(4 / 6)
    assert event_accuracy(LOGITS, LABELS) == pytest.approx(2 / 4)
    assert event_accuracy(LOGITS, LABELS, background=0) == pytest.approx(3 / 4)
    assert event_accuracy(LOGITS, np.full((2, 3), 2)) is None


def test_metrics_of_a_model():
    unimodal = {"audio": np.eye(3)[LABELS], "visual": LOGITS}
    keep = np.array([[True, False], [True, True]])
    metrics = segment_classification_metrics(EvalPrediction((LOGITS, unimodal, keep), LABELS))
    assert metrics == pytest.approx(
        {"accuracy": 4 / 6, "event_accuracy": 2 / 4, "accuracy_audio": 1.0, "accuracy_visual": 2 / 3}
    )
    keep[:, 1] = False
    assert "accuracy_visual" not in segment_classification_metrics(EvalPrediction((LOGITS, unimodal, keep), LABELS))
    assert segment_classification_metrics(EvalPrediction(LOGITS, LABELS))["accuracy"] == pytest.approx(4 / 6)


def test_without_events():
    assert segment_classification_metrics(EvalPrediction(LOGITS, np.full((2, 3), 2))) == {"accuracy": 3 / 6}


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (LOGITS, LABELS[:, 0], r"found \(2, 3, 3\) and \(2,\)"),
        (LOGITS[:, 0], LABELS, r"found \(2, 3\) and \(2, 3\)"),
        (LOGITS * np.nan, LABELS, "NaN"),
        (LOGITS, LABELS + 1, r"\[0, 3\), found 3"),
    ],
)
def test_bad_input(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        segment_accuracy(logits, labels)


def test_a_bad_modality_is_named():
    with pytest.raises(ValueError, match="modality 'audio'"):
        segment_classification_metrics(EvalPrediction((LOGITS, {"audio": LOGITS * np.nan}), LABELS))


def test_another_form_of_predictions():
    with pytest.raises(ValueError, match="keys_to_ignore_at_inference"):
        segment_classification_metrics(EvalPrediction((LOGITS, LOGITS), LABELS))
