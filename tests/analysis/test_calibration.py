from __future__ import annotations

import numpy as np
import pytest

from hf_bml.analysis.calibration import calibration


def logits_of(*probabilities):
    """Two classes, given the probability of class 0."""
    p = np.array(probabilities)
    return np.log(np.stack([p, 1 - p], axis=1))


def test_four_samples():
    """Confidences 0.6 (wrong), 0.9 (right), 0.95 (right), 0.75 (wrong) in four bins, of which the upper two are used.

    (0.5, 0.75]: 0.6 and 0.75, confidence 0.675, accuracy 0, error 0.675; (0.75, 1]: confidence 0.925, accuracy 1,
    error 0.075. ECE = 0.5 * 0.675 + 0.5 * 0.075 = 0.375.
    """
    found = calibration(logits_of(0.6, 0.9, 0.05, 0.75 - 1e-9), [1, 0, 1, 1], bins=4)
    assert found["ece"] == pytest.approx(0.375)
    assert [(b["lower"], b["upper"], b["count"], b["accuracy"]) for b in found["bins"]] == [
        (0.5, 0.75, 2, 0.0),
        (0.75, 1.0, 2, 1.0),
    ]
    assert [b["confidence"] for b in found["bins"]] == pytest.approx([0.675, 0.925])


def test_certain_and_right_has_no_error():
    found = calibration([[1000.0, 0.0], [0.0, 1000.0]], [0, 1])
    assert found["ece"] == 0
    [only] = found["bins"]
    assert (only["confidence"], only["count"], only["upper"]) == (1.0, 2, 1.0)


def test_as_sure_as_right_has_no_error():
    assert calibration(logits_of(*[0.75] * 4), [0, 0, 0, 1], bins=10)["ece"] == pytest.approx(0)


def test_counts_add_up():
    generator = np.random.default_rng(0)
    found = calibration(generator.normal(size=(100, 5)), generator.integers(5, size=100))
    assert sum(b["count"] for b in found["bins"]) == 100
    assert all(b["lower"] < b["confidence"] <= b["upper"] for b in found["bins"])
    assert found["ece"] == pytest.approx(
        sum(b["count"] * abs(b["accuracy"] - b["confidence"]) for b in found["bins"]) / 100
    )


def test_bad_input():
    with pytest.raises(ValueError, match="at least 1, found 0"):
        calibration([[1.0, 0.0]], [0], bins=0)
    with pytest.raises(ValueError, match="NaN"):
        calibration([[np.nan, 0.0]], [0])
