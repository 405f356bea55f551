from __future__ import annotations

import pytest
from matplotlib.collections import PathCollection

from hf_bml.analysis.row import Row
from hf_bml.analysis.sensitivity import Sweep
from hf_bml.figures.sensitivity_grid import plot_sensitivity


def row(*values):
    return Row("", runs=[{"seed": s, "validation_accuracy": v, "accuracy": v / 2} for s, v in enumerate(values)])


def test_a_line_per_split_and_a_ring_around_the_chosen_one(tmp_path, drawn):
    rows = [row(0.5, 0.7), row(0.8, 0.8), row(0.4, 0.4)]
    found = Sweep({"learning_rate": [1e-1, 1e-3, 1e-5]}, [{}] * 3, rows, baseline=Row("none", runs=row(0.3).runs))
    plot_sensitivity(found, tmp_path / "line.png", "accuracy", rows[1])
    [axis] = drawn[0].axes
    validation, test = (bars.lines[0] for bars in axis.containers)
    assert validation.get_xdata().tolist() == [1e-5, 1e-3, 1e-1]  # sorted, on a logarithmic axis
    assert validation.get_ydata() == pytest.approx([40, 80, 60]) and test.get_ydata() == pytest.approx([20, 40, 30])
    assert axis.get_xscale() == "log" and axis.get_xlabel() == "learning_rate"
    rings = [collection for collection in axis.collections if isinstance(collection, PathCollection)]
    assert [ring.get_offsets()[0].tolist() for ring in rings] == [[1e-3, 80], [1e-3, 40]]
    labels = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert "best on validation" in labels and "none, test" in labels


def test_words_stand_side_by_side(tmp_path, drawn):
    rows = [row(0.5), row(0.8)]
    plot_sensitivity(Sweep({"fusion": ["sum", "film"]}, [{}] * 2, rows), tmp_path / "words.png", "accuracy", rows[1])
    assert [label.get_text() for label in drawn[0].axes[0].get_xticklabels()] == ["sum", "film"]


def test_two_options_are_heat_maps(tmp_path, drawn):
    options = {"a": [1, 2], "b": [0.5, 0.75, 1.0]}
    settings = [{"a": a, "b": b} for a in options["a"] for b in options["b"]]
    rows = [row(0.1 * index, 0.1 * index) for index in range(6)]
    plot_sensitivity(Sweep(options, settings, rows), tmp_path / "map.png", "accuracy", rows[5], "title")
    validation, test = (axis for axis in drawn[0].axes if axis.images)
    assert validation.images[0].get_array().tolist() == [pytest.approx([0, 10, 20]), pytest.approx([30, 40, 50])]
    assert (validation.get_title(), test.get_title()) == ("validation", "test")
    assert test.texts[-1].get_text() == "25.0\n± 0.0"
    assert {patch.get_xy() for patch in test.patches} == {(2 - 0.46, 1 - 0.46)}


def test_three_options_are_refused(tmp_path):
    with pytest.raises(ValueError, match="one or two options, found 3"):
        plot_sensitivity(Sweep({"a": [1], "b": [1], "c": [1]}), tmp_path / "x.png", "accuracy", row(0.5))
