import numpy as np
import pytest
from matplotlib.container import BarContainer

from hf_bml.figures.shapley_bars import plot_shapley


def shapley(**values):
    return {"values": values, "coalitions": {}}


def drawn_widths(figure):
    [axis] = figure.axes
    bars = [found for found in axis.containers if isinstance(found, BarContainer)]
    return {found.get_label(): [patch.get_width() for patch in found] for found in bars}


def test_bars_are_percentage_points(tmp_path, drawn):
    plot_shapley({"concat": [shapley(a=0.5, b=-0.1)], "opm": [shapley(a=0.25, b=0.25)]}, tmp_path / "shapley.png")
    assert drawn_widths(drawn[0]) == {"a": [50, 25], "b": [-10, 25]}
    assert not any(found.has_xerr for found in drawn[0].axes[0].containers if not isinstance(found, BarContainer))


def test_means_and_spreads_over_seeds(tmp_path, drawn):
    runs = {"two": [shapley(a=0.1, b=0.1), shapley(a=0.3, b=0.3)], "one": [shapley(a=0.1)]}
    plot_shapley(runs, tmp_path / "shapley.png")
    assert drawn_widths(drawn[0]) == {"a": pytest.approx([20, 10]), "b": pytest.approx([20, 0])}
    [first, _] = [found for found in drawn[0].axes[0].containers if not isinstance(found, BarContainer)]
    ends = [np.ptp(segment[:, 0]) / 2 for segment in first.lines[2][0].get_segments()]
    assert ends == pytest.approx([100 * 0.02**0.5, 0])
