from __future__ import annotations

import numpy as np
import pytest

from hf_bml.analysis.predictions import Predictions
from hf_bml.analysis.trust import Trust, fit_trust, with_trust


def test_distances_by_hand():
    """Two classes around 0 and 10 with variance 1; 80 % of the clean samples are within 3.2 of a mean."""
    known = fit_trust([[-1.0], [1.0], [9.0], [11.0]], [0, 0, 1, 1], [[0.0], [11.0], [-2.0], [7.0], [14.0]])
    assert known.usual == pytest.approx(3.2)
    assert known.distances([[4.0], [7.0], [20.0]]) == pytest.approx([4.0, 3.0, 10.0])
    assert known.weights([[10.0], [3.2], [16.4], [-32.0]]) == pytest.approx([1.0, 1.0, 0.25, 0.01])


def test_the_covariance_is_that_within_classes():
    """Directions that vary little count more; a feature that is always 0 makes nothing infinite."""
    generator = np.random.default_rng(0)
    labels = np.arange(400) % 2
    features = generator.normal(size=(400, 3)) * [3.0, 0.3, 0.0] + labels[:, None] * [100.0, 0.0, 0.0]
    known = fit_trust(features, labels, features)
    wide, narrow = known.distances(known.means[0] + np.diag([3.0, 3.0, 0.0])[:2])
    assert wide == pytest.approx(1.0, abs=0.1) and 3 < narrow < 10
    assert np.isfinite(known.precision).all() and 1 < known.usual < 2


@pytest.mark.parametrize("features", [np.empty((0, 2)), [[np.nan, 0.0], [1.0, 1.0]]])
def test_bad_features(features):
    with pytest.raises(ValueError, match="expected finite features, found"):
        fit_trust(features, np.arange(len(features)), [[0.0, 1.0]])


def test_votes_that_come_from_far_away_count_less():
    """The second row's audio is at twice the usual distance; the third one has nothing to weigh it against."""
    shares = {"audio": np.array([[3.0, 0.0]] * 3), "visual": np.array([[0.0, 2.0]] * 2 + [[0.1, 0.2]])}
    present = {"audio": np.array([True] * 3), "visual": np.array([True, True, False])}
    features = {"audio": np.array([[1.0], [2.0], [2.0]]), "visual": np.array([[0.0], [0.0], [9.0]])}
    found = Predictions(np.zeros(3, int), sum(shares.values()), np.arange(3), shares, present, features)
    trust = Trust(np.zeros((1, 1)), np.eye(1), 1.0)
    changed = with_trust(found, {"audio": trust, "visual": trust}, {"audio": [0.2, 0.4], "visual": [0.1, 0.2]})
    audio = np.array([[3.0, 0.0], [0.2 + 0.25 * 2.8, 0.4 - 0.25 * 0.4], [3.0, 0.0]])
    assert changed.unimodal_logits["audio"] == pytest.approx(audio)
    assert changed.unimodal_logits["visual"] == pytest.approx(shares["visual"])
    assert changed.logits == pytest.approx(audio + shares["visual"])
    assert found.unimodal_logits["audio"][1, 0] == 3 and found.logits[1, 0] == 3  # what is given stays as it is
