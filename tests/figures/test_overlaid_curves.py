from __future__ import annotations

import pytest

from hf_bml.figures import overlaid_curves
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
