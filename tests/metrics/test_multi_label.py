from __future__ import annotations

import numpy as np
import pytest
from transformers import EvalPrediction

from hf_bml.metrics import multi_label_metrics, subset_accuracy

LABELS = np.array([[1, 0, 1], [0, 0, 1], [1, 0, 0], [1, 0, 1]])
LOGITS = np.array([[2.0, -1.0, 1.0], [-2.0, -1.0, -0.5], [1.0, -1.0, -1.0], [3.0, -3.0, 2.0]])  # one bit is wrong


def test_values_by_hand():
    alone = {"audio": LOGITS, "visual": -LOGITS}
    keep = np.array([[True, True], [False, True], [True, True], [True, False]])
    found = multi_label_metrics(EvalPrediction((LOGITS, alone, keep), LABELS.astype(np.float32)))
    assert found["accuracy"] == 0.75 and found["hamming_loss"] == pytest.approx(1 / 12)
    assert found["f1_micro"] == pytest.approx(2 * 5 / (5 + 6))
    assert found["f1_macro"] == pytest.approx((1 + 0 + 2 * 2 / (2 + 3)) / 3)
    assert found["mean_average_precision"] == pytest.approx(1.0)  # of the two labels that occur
    assert found["accuracy_audio"] == 1.0 and found["accuracy_visual"] == 0.0


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (LOGITS, LABELS[:, :2], "of one shape"),
        (np.where(LOGITS > 2.5, np.nan, LOGITS), LABELS, "NaN in row 3"),
        (LOGITS, LABELS * 2, r"in \[0, 1\], found 2"),
    ],
)
def test_what_is_no_prediction_of_several_labels(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        subset_accuracy(logits, labels)
