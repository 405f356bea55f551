import pytest

from hf_bml.analysis.missing_curves import grid_keys, grid_points, grid_title, plot_missing


def missing(*accuracies, rate=0.1):
    grid = {"fixed": "a", "fixed_rate": rate, "varied": "b", "rates": [0.3, 0.1]}
    return {"split": "test", "grids": [{**grid, "accuracy": list(accuracies), "std": [0.02, 0.01]}], "complete": 0.9}


def test_one_run_has_the_spread_of_its_masks_and_several_that_between_them():
    key = ("a", 0.1, "b")
    rates, means, spreads = grid_points([missing(0.5, 0.7)], key)
    assert rates.tolist() == [0.1, 0.3] and means.tolist() == [0.7, 0.5] and spreads.tolist() == [0.01, 0.02]
    _, means, spreads = grid_points([missing(0.5, 0.7), missing(0.7, 0.7)], key)
    assert means == pytest.approx([0.7, 0.6]) and spreads == pytest.approx([0, 0.02**0.5])


def test_a_panel_per_grid(tmp_path, drawn):
    runs = {"concat": [missing(0.5, 0.7)], "opm": [missing(0.6, 0.8), missing(0.6, 0.8, rate=0.2)]}
    assert grid_keys(runs) == [("a", 0.1, "b"), ("a", 0.2, "b")]
    plot_missing(runs, tmp_path / "missing.png")
    first, second = drawn[0].axes
    assert first.get_title() == grid_title({"fixed": "a", "fixed_rate": 0.1}) == "10 % of a missing"
    assert [len(axis.containers) for axis in (first, second)] == [2, 1]
    assert first.get_xlabel() == "b missing"
