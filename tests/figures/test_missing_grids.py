from __future__ import annotations

import numpy as np
import pytest

from hf_bml.figures.missing_grids import drawn_keys, grid_keys, grid_points, grid_title, plot_missing


def missing(*accuracies, rate=0.1):
    grid = {"fixed": "a", "fixed_rate": rate, "varied": "b", "rates": [0.3, 0.1]}
    return {"split": "test", "grids": [{**grid, "accuracy": list(accuracies), "std": [0.02, 0.01]}], "complete": 0.9}


def test_one_run_has_the_spread_of_its_masks_and_several_that_between_them():
    key = ("a", 0.1, "b")
    rates, means, spreads = grid_points([missing(0.5, 0.7)], key)
    assert rates.tolist() == [0.1, 0.3] and means.tolist() == [0.7, 0.5] and spreads.tolist() == [0.01, 0.02]
    _, means, spreads = grid_points([missing(0.5, 0.7), missing(0.7, 0.7)], key)
    assert means == pytest.approx([0.7, 0.6]) and spreads == pytest.approx([0, 0.02**0.5])


def test_only_rates_that_all_runs_have():
    runs = [missing(0.5, 0.7), missing(0.7, 0.7)]
    runs[0]["grids"][0]["rates"] = [0.1, 0.2]  # accuracies 0.5 and 0.7, spreads 0.02 and 0.01
    rates, means, _ = grid_points(runs, ("a", 0.1, "b"))
    assert rates.tolist() == [0.1] and means == pytest.approx([0.6])  # 0.5 and 0.7
    runs[0]["grids"][0]["rates"] = [0.2, 0.25]
    assert [len(values) for values in grid_points(runs, ("a", 0.1, "b"))] == [0, 0, 0]
    assert grid_keys({"run": runs}) == [] and grid_keys({"run": runs[:1]}) == [("a", 0.1, "b")]
    assert len(grid_points(runs, ("a", 0.5, "b"))[0]) == 0


def test_one_mask_has_no_spread(tmp_path, drawn):
    run = missing(0.5, 0.7)
    run["grids"][0]["std"] = [None, None]
    assert np.isnan(grid_points([run], ("a", 0.1, "b"))[2]).all()
    plot_missing({"concat": [run]}, tmp_path / "missing.png")
    assert not drawn[0].axes[0].containers[0].has_yerr


def test_a_panel_per_grid(tmp_path, drawn):
    runs = {"concat": [missing(0.5, 0.7)], "opm": [missing(0.6, 0.8), missing(0.6, 0.8, rate=0.2)]}
    assert grid_keys(runs) == [("a", 0.1, "b"), ("a", 0.2, "b")]
    plot_missing(runs, tmp_path / "missing.png")
    first, second = drawn[0].axes
    assert first.get_title() == grid_title({"fixed": "a", "fixed_rate": 0.1}) == "10 % of a missing"
    assert [len(axis.containers) for axis in (first, second)] == [2, 1]
    assert first.get_xlabel() == "b missing"
    assert [label.get_text() for label in first.get_xticklabels()] == ["10%", "30%"]


def test_of_too_many_grids_those_of_the_smallest_share_are_drawn(tmp_path, drawn):
    runs = {"concat": [missing(0.5, 0.7, rate=rate / 100) for rate in range(10, 23)]}
    assert len(grid_keys(runs)) == 13 and drawn_keys(runs) == [("a", 0.1, "b")]
    plot_missing(runs, tmp_path / "missing.png")
    assert len(drawn[0].axes) == 1
