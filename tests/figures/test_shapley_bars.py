import math

import pytest

from hf_bml.figures.shapley_bars import mean_values, plot_shapley


def shapley(**values):
    return {"values": values, "coalitions": {}}


def test_mean_and_spread():
    assert mean_values([shapley(a=0.1), shapley(a=0.3)], "a") == pytest.approx((0.2, 0.02**0.5))
    mean, spread = mean_values([shapley(a=0.1)], "b")
    assert math.isnan(mean) and math.isnan(spread)


def test_bars_are_percentage_points(tmp_path, drawn):
    plot_shapley({"concat": [shapley(a=0.5, b=-0.1)], "opm": [shapley(a=0.25, b=0.25)]}, tmp_path / "shapley.png")
    [axis] = drawn[0].axes
    widths = {bars.get_label(): [patch.get_width() for patch in bars] for bars in axis.containers}
    assert widths == {"a": [50, 25], "b": [-10, 25]}
