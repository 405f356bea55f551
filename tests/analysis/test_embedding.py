from __future__ import annotations

import numpy as np
import pytest

from hf_bml.analysis.embedding import embed_modalities, subsample, tsne


@pytest.fixture(scope="module")
def clusters():
    """Two clusters of 15 points in five dimensions, far from each other."""
    labels = np.repeat([0, 1], 15)
    return np.random.default_rng(0).normal(size=(30, 5)) + 50.0 * labels[:, None], labels


def test_neighbours_stay_neighbours(clusters):
    features, labels = clusters
    points = tsne(features)
    distances = np.linalg.norm(points[:, None] - points[None], axis=2) + np.diag([np.inf] * 30)
    assert points.shape == (30, 2)
    assert (labels[distances.argmin(axis=1)] == labels).all()


def test_seeded(clusters):
    features, _ = clusters
    assert np.array_equal(tsne(features, seed=3), tsne(features, seed=3))


@pytest.mark.parametrize("features", [np.zeros((4, 3)), np.arange(5.0)[:, None]], ids=["constant", "one dimension"])
def test_what_has_no_principal_components(features):
    assert np.isfinite(tsne(features)).all()


def test_the_same_rows_for_all_modalities_but_the_absent_ones(clusters):
    features, labels = clusters
    there = np.ones(30, dtype=bool)
    some, rare = there.copy(), ~there
    some[:5], rare[:3] = False, True
    found = embed_modalities(
        {"a": features, "b": features, "c": features}, labels, {"a": there, "b": some, "c": rare}, limit=20, seed=1
    )
    chosen = subsample(30, 20, 1)
    assert [label for _, _, label in found["a"]] == labels[chosen].tolist()
    assert [label for _, _, label in found["b"]] == labels[chosen[chosen >= 5]].tolist()
    assert "c" not in found  # three rows at most


def test_subsample():
    assert subsample(3, 5, 0).tolist() == [0, 1, 2]
    chosen = subsample(100, 10, 0)
    assert len(set(chosen.tolist())) == 10 and (np.diff(chosen) > 0).all()
    assert not np.array_equal(chosen, subsample(100, 10, 1))


def test_bad_input():
    with pytest.raises(ValueError, match=r"n >= 4 samples, found shape \(3, 2\)"):
        tsne(np.ones((3, 2)))
    with pytest.raises(ValueError, match="NaN or infinity"):
        tsne(np.full((4, 2), np.nan))
