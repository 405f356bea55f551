from __future__ import annotations

import numpy as np
import pytest

from hf_bml.analysis.predictions import as_predictions


def test_samples():
    found = as_predictions(
        [0, 1],
        [[2.0, 1.0], [3.0, 0.0]],
        {"a": [[1.0, 0.0], [0.0, 1.0]], "b": [[0.0, 1.0], [0.0, 1.0]]},
        [[True, False], [True, True]],
        {"a": np.ones((2, 3)), "b": np.zeros((2, 5))},
    )
    assert found.correct.tolist() == [True, False]
    assert found.present["b"].tolist() == [False, True] and found.present["a"].all()
    assert found.features["b"].shape == (2, 5) and found.samples.tolist() == [0, 1]


def test_segments_are_rows():
    logits = np.arange(12.0).reshape(2, 3, 2)
    found = as_predictions([[0, 1, -100], [1, -100, 0]], logits, {"a": -logits}, [[True], [False]], {"a": logits})
    assert found.labels.tolist() == [0, 1, 1, 0]
    assert found.samples.tolist() == [0, 0, 1, 1]
    assert found.logits.tolist() == [[0, 1], [2, 3], [6, 7], [10, 11]]
    assert found.unimodal_logits["a"].tolist() == [[0, -1], [-2, -3], [-6, -7], [-10, -11]]
    assert found.present["a"].tolist() == [True, True, False, False]
    assert found.features["a"].tolist() == found.logits.tolist()


def test_without_keep_mask_nothing_is_absent():
    assert as_predictions([0], [[1.0, 0.0]], {"a": [[1.0, 0.0]]}).present["a"].tolist() == [True]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": [[0, 1]], "logits": np.ones((1, 2))}, r"labels \(1, 2\) with logits \(1, 2\)"),
        ({"labels": [0], "logits": np.ones((1, 3, 2))}, r"labels \(1,\) with logits \(1, 3, 2\)"),
        ({"labels": [0], "logits": [[1.0, 0.0]], "features": {"a": np.ones((1, 4, 2))}}, "features of 'a'"),
        ({"labels": [[0, 1]], "logits": np.ones((1, 2, 2)), "features": {"a": np.ones((1, 4))}}, "features of 'a'"),
        ({"labels": [2], "logits": [[1.0, 0.0]]}, r"\[0, 2\), found 2"),
        ({"labels": [-100], "logits": [[1.0, 0.0]]}, "n >= 1"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        as_predictions(**arguments)
