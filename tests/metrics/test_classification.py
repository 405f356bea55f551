from __future__ import annotations

import numpy as np
import pytest
from transformers import EvalPrediction

from hf_bml.metrics import classification_metrics

LOGITS = np.eye(3)[[0, 1, 2, 0]] * 4.0
LABELS = np.array([0, 1, 2, 1])


def metrics(*extra):
    return classification_metrics(EvalPrediction(predictions=(LOGITS, *extra), label_ids=LABELS))


def test_unimodal_accuracy_counts_the_samples_that_have_the_modality():
    unimodal = {"audio": np.eye(3)[[0, 1, 0, 0]], "visual": np.eye(3)[[0, 0, 0, 1]]}
    assert metrics(unimodal)["accuracy_audio"] == 0.5
    keep = np.array([[True, True], [True, False], [False, False], [False, True]])
    masked = metrics(unimodal, keep)
    assert masked["accuracy_audio"] == 1.0
    assert masked["accuracy_visual"] == 1.0
    assert masked["accuracy"] == 0.75


def test_a_modality_that_no_sample_has_gets_no_accuracy():
    keep = np.array([[True, False]] * 4)
    masked = metrics({"audio": LOGITS, "visual": LOGITS}, keep)
    assert "accuracy_audio" in masked and "accuracy_visual" not in masked


def test_other_outputs_are_refused():
    with pytest.raises(ValueError, match="keys_to_ignore_at_inference"):
        metrics({"audio": LOGITS}, np.ones((4, 1), dtype=bool), LOGITS)
