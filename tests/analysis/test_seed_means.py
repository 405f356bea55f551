from __future__ import annotations

import math

from hf_bml.analysis.seed_means import mean_curve


def test_mean_and_spread_where_all_curves_have_a_value():
    places, means, spreads = mean_curve([([1.0, 2.0], [0.0, 2.0]), ([1.0, 2.0, 3.0], [1.0, 4.0, 9.0]), ([], [])])
    assert places.tolist() == [1, 2] and means.tolist() == [0.5, 3]
    assert spreads.tolist() == [math.sqrt(0.5), math.sqrt(2)]


def test_one_curve_has_no_spread():
    places, means, spreads = mean_curve([([2.0, 1.0], [5.0, 4.0])])
    assert places.tolist() == [1, 2] and means.tolist() == [4, 5]
    assert all(math.isnan(spread) for spread in spreads)


def test_without_a_common_place_all_count():
    places, means, _ = mean_curve([([1.0], [1.0]), ([2.0], [3.0])])
    assert places.tolist() == [1, 2] and means.tolist() == [1, 3]


def test_nothing():
    assert [len(values) for values in mean_curve([([], [])])] == [0, 0, 0]
