from __future__ import annotations

import pytest

from hf_bml.analysis.confusion import confusion


def test_rows_are_true_classes():
    assert confusion([1, 1, 0, 2], [0, 0, 0, 2], 4).tolist() == [
        [1, 2, 0, 0],
        [0, 0, 0, 0],
        [0, 0, 1, 0],
        [0, 0, 0, 0],
    ]


def test_of_logits():
    assert confusion([[0.0, 1.0], [1.0, 0.0]], [0, 0], 2).tolist() == [[1, 1], [0, 0]]


def test_bad_input():
    with pytest.raises(ValueError, match="one label per prediction"):
        confusion([0, 1], [0], 2)
