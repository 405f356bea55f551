from __future__ import annotations

import numpy as np
import pytest

from hf_bml.analysis.category_wise import class_counts, per_class_accuracy
from hf_bml.metrics import accuracy


def test_by_hand():
    labels, predictions = [0, 0, 0, 1, 1, 3], [0, 0, 1, 1, 0, 2]
    found = per_class_accuracy(predictions, labels, 4)
    assert found[:2] == pytest.approx([2 / 3, 1 / 2])
    assert np.isnan(found[2]) and found[3] == 0
    counts = class_counts(np.array(labels), 4)
    assert counts.tolist() == [3, 2, 0, 1]
    assert np.nansum(found * counts) / counts.sum() == pytest.approx(accuracy(predictions, labels))


def test_of_logits():
    assert per_class_accuracy([[2.0, 1.0], [2.0, 1.0]], [0, 1], 2).tolist() == [1.0, 0.0]


def test_a_label_that_is_no_class():
    with pytest.raises(ValueError, match=r"\[0, 2\), found 2"):
        per_class_accuracy([0, 1], [0, 2], 2)
