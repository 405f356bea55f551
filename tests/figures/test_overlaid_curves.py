from __future__ import annotations

import numpy as np
import pytest

from hf_bml.figures import overlaid_curves
from hf_bml.figures.overlaid_curves import (
    drawn_keys,
    final_alone,
    final_probe,
    grid_keys,
    grid_points,
    grid_title,
    plot_missing,
    plot_probes,
    probe_curve,
)
from hf_bml.figures.style import run_styles


def history(ratio, probability=None):
    entries = []
    for epoch in (1.0, 2.0):
        entry = {"epoch": epoch, "loss": ratio / epoch, "balance/ratio_a": ratio, "balance/ratio_b": 1 / ratio}
        if probability is not None:
            entry["opm/drop_probability_a"] = probability
            entry["dropout/probability"] = 0.5
        entries += [entry, {"epoch": epoch, "eval_accuracy": 0.5, "eval_accuracy_a": 0.25, "eval_loss": 1.0}]
    return entries


HISTORIES = {"concat": [history(2.0), history(4.0)], "opm": [history(1.0, probability=0.25)]}


def lines(axis):
    return {line.get_label(): line.get_ydata().tolist() for line in axis.get_lines() if line.get_label()[0] != "_"}


def test_ratios_are_means_over_seeds(tmp_path, drawn):
    overlaid_curves.plot_ratios(HISTORIES, ["a", "b", "absent"], tmp_path / "ratio.png")
    first, second = drawn[0].axes
    assert lines(first) == {"concat": [3, 3], "opm": [1, 1]}
    assert lines(second) == {"concat": [0.375, 0.375], "opm": [1, 1]}
    assert first.get_title() == "a" and first.get_xlabel() == "epoch" and "ratio" in first.get_ylabel()
    [band] = first.collections  # of the run with two seeds
    assert band.get_paths()[0].get_extents().height == pytest.approx(2 * 2**0.5)


def test_losses_and_validation(tmp_path, drawn):
    overlaid_curves.plot_losses(HISTORIES, tmp_path / "loss.png")
    overlaid_curves.plot_validation_accuracies(HISTORIES, ["a", "b"], tmp_path / "validation.png")
    losses, accuracies = drawn
    assert [axis.get_title() for axis in losses.axes] == ["training loss", "validation loss"]
    assert lines(losses.axes[0])["concat"] == [3, 1.5]
    assert [axis.get_title() for axis in accuracies.axes] == ["all modalities", "a"]  # b was not logged


def test_modulations_keep_the_style_that_a_run_has_elsewhere(tmp_path, drawn):
    styles = run_styles(HISTORIES)
    only = {"opm": HISTORIES["opm"]}
    assert overlaid_curves.plot_modulations(only, ["a", "b"], tmp_path / "modulation.png", styles)
    titles = [axis.get_title() for axis in drawn[0].axes]
    assert titles == ["OPM, drop probability: a", "Dropout, dropout probability"]
    [line] = drawn[0].axes[0].get_lines()
    assert line.get_ydata().tolist() == [0.25, 0.25] and line.get_color() == styles["opm"]["color"]


def test_nothing_modulated_is_no_picture(tmp_path):
    assert not overlaid_curves.plot_modulations({"concat": HISTORIES["concat"]}, ["a"], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_what_belongs_together_stands_together(tmp_path, drawn):
    """Panels go by quantity, then by modality, however the log is ordered."""
    modalities = ["a", "b", "c", "d", "e", "f"]
    log = [
        {
            "epoch": 1.0,
            **{f"{key}_{m}": 0.5 for m in modalities for key in ("opm/drop_probability", "ogm/coefficient")},
        }
    ]
    overlaid_curves.plot_modulations({"both": [log]}, modalities, tmp_path / "modulation.png")
    titles = [axis.get_title() for axis in drawn[0].axes]
    assert titles == [
        f"{what}: {m}" for what in ("OPM, drop probability", "OGM, gradient coefficient") for m in modalities
    ]
    assert drawn[0].axes[0].get_gridspec().ncols == 3


PROBE = {
    "split": "test",
    "settings": {},
    "checkpoints": [
        {"step": 10, "epoch": 1.0, "accuracy": {"a": 0.4, "b": 0.3}},
        {"step": 20, "epoch": 2.0, "accuracy": {"a": 0.6, "b": 0.5}},
    ],
    "alone": {"a": {"checkpoints": [{"step": 10, "epoch": 1.0, "accuracy": 0.7}], "accuracy": 0.75}},
}
BARE = {**PROBE, "alone": {}}


def test_values_of_probes():
    assert probe_curve(PROBE["checkpoints"], "a") == ([1.0, 2.0], [0.4, 0.6])
    assert final_probe(PROBE, "b") == 0.5 and final_probe(PROBE, "c") is None
    kept = [{**entry, "final": entry["step"] == 10} for entry in PROBE["checkpoints"]]
    assert final_probe({**PROBE, "checkpoints": kept}, "b") == 0.3
    assert final_alone(PROBE, "a") == 0.75 and final_alone(BARE, "a") is None and final_alone(PROBE, "b") is None


def test_a_model_trained_alone_over_its_epochs(tmp_path, drawn):
    entries = [{"step": 10, "epoch": 1.0, "accuracy": 0.6}, {"step": 20, "epoch": 2.0, "accuracy": 0.7}]
    probe = {**PROBE, "alone": {"a": {"checkpoints": entries, "accuracy": 0.7}}}
    plot_probes({"opm": [probe]}, ["a"], tmp_path / "probes.png")
    [axis] = drawn[0].axes
    assert axis.get_lines()[-1].get_ydata().tolist() == [0.6, 0.7]


def test_a_panel_per_modality_and_one_for_all_of_them(tmp_path, drawn):
    histories = {"opm": [[{"epoch": 1.0, "eval_accuracy": 0.9}]]}
    plot_probes({"opm": [PROBE]}, ["a", "b"], tmp_path / "probes.png", histories)
    first, second, joint = drawn[0].axes
    assert {line.get_label(): list(line.get_ydata()) for line in first.get_lines()} == {
        "opm": [0.4, 0.6],
        "trained alone": [0.75, 0.75],  # its final accuracy, from side to side
    }
    assert [line.get_label() for line in second.get_lines()] == ["opm"]
    assert joint.get_title() == "all modalities, validation" and joint.get_lines()[0].get_ydata().tolist() == [0.9]


def test_a_final_accuracy_alone_is_a_line(tmp_path, drawn):
    probe = {**PROBE, "alone": {"a": {"checkpoints": [], "accuracy": 0.75}}}
    plot_probes({"opm": [probe]}, ["a"], tmp_path / "probes.png")
    [axis] = drawn[0].axes
    assert axis.get_lines()[1].get_ydata() == [0.75, 0.75]


def test_a_single_checkpoint_has_one_tick(tmp_path, drawn):
    probe = {**BARE, "checkpoints": PROBE["checkpoints"][:1]}
    plot_probes({"opm": [probe], "concat": [probe]}, ["a"], tmp_path / "probes.png")
    [axis] = drawn[0].axes
    assert [label.get_text() for label in axis.get_xticklabels()] == ["1"] and list(axis.get_xticks()) == [1.0]


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
