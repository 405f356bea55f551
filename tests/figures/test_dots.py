from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from hf_bml.analysis.row import Row
from hf_bml.figures import dots
from hf_bml.figures.style import modality_colours


def row(label, *accuracies, audio=(), **options):
    runs = [{"accuracy": accuracy} for accuracy in accuracies]
    for run, value in zip(runs, audio, strict=False):
        run["accuracy_audio"] = value
    return Row(label, methods=label.split(":")[0], runs=runs, **options)


def ticks(axis):
    return [label.get_text() for label in axis.get_yticklabels()]


def marked(axis, marker="o"):
    """The values that dots (or other markers) stand for, from top to bottom."""
    lines = [line for line in axis.get_lines() if line.get_marker() == marker]
    points = [point for line in lines for point in zip(line.get_ydata(), line.get_xdata(), strict=True)]
    return [float(value) for _, value in sorted(points)]


def spans(axis):
    """Ends of the horizontal lines, from top to bottom."""
    lines = [line for line in axis.get_lines() if line.get_marker() == "None" and len(set(line.get_ydata())) == 1]
    return [list(line.get_xdata()) for line in sorted(lines, key=lambda line: line.get_ydata()[0])]


def test_dots_are_means_sorted_by_the_first_panel_with_students_interval(tmp_path, drawn):
    rows = [row("none", 0.5, 0.7, 0.6, audio=(0.2, 0.4)), row("opm", 0.8, 0.9), row("ogm", 0.7)]
    assert dots.plot_accuracies(rows, tmp_path / "accuracy.png", "title")
    joint, audio = drawn[0].axes
    assert ticks(joint) == ["opm", "ogm", "none"] and joint.get_ylim() == (2.5, -0.5)
    assert marked(joint) == pytest.approx([0.85, 0.7, 0.6]) and marked(audio) == pytest.approx([0.3])
    half = 4.3026527 * 0.1 / 3**0.5  # Student's t for 2 degrees of freedom
    assert spans(joint) == [pytest.approx([0.6 - half, 0.6 + half], abs=1e-6)]  # not of the two runs of opm
    assert marked(joint, "|") == pytest.approx([0.8, 0.9]) and marked(audio, "|") == pytest.approx([0.2, 0.4])
    assert [axis.get_title() for axis in (joint, audio)] == ["all modalities", "audio"]
    low, high = joint.get_xlim()
    assert 0.25 < low < 0.6 - half and 0.9 < high <= 1.02  # zoomed
    [reference] = [line for line in joint.get_lines() if line.get_linestyle() == "--"]
    assert list(reference.get_xdata()) == pytest.approx([0.6, 0.6])
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == ["none (reference)"]


def test_rows_of_several_recipes_are_sorted_within_them_each_with_its_reference(tmp_path, drawn):
    rows = [row(label, value, recipe=recipe) for recipe in "ab" for label, value in (("none", 0.5), ("opm", 0.6))]
    rows[2].runs[0]["accuracy"] = 0.9
    dots.plot_accuracies(rows, tmp_path / "accuracy.png")
    [axis] = drawn[0].axes
    assert ticks(axis) == ["a: opm", "a: none", "b: none", "b: opm"]
    lines = [line for line in axis.get_lines() if line.get_linestyle() == "--"]
    assert [(line.get_xdata()[0], *line.get_ydata()) for line in lines] == [(0.5, -0.45, 1.45), (0.9, 1.55, 3.45)]


def test_series_stand_below_each_other_in_a_row(tmp_path, drawn):
    records = [
        {"row": name, "panel": "p", "series": series, "value": value}
        for name, series, value in (("x", "a", 0.2), ("x", "b", 0.4), ("y", "a", 0.9))
    ]
    dots.dot_plot(records, tmp_path / "dots.png", label="accuracy", styles={"b": {"marker": "s"}})
    [axis] = drawn[0].axes
    assert ticks(axis) == ["y", "x"]  # by the mean over the series
    assert {line.get_label(): line.get_ydata().tolist() for line in axis.get_lines()} == {
        "a": pytest.approx([-0.175, 0.825]),
        "b": pytest.approx([1.175]),
    }
    assert axis.get_lines()[1].get_marker() == "s"


@pytest.mark.parametrize(
    ("order", "names"), [("ascending", ["y", "x"]), ("descending", ["x", "y"]), (None, ["y", "x"])]
)
def test_the_order_of_rows(tmp_path, drawn, order, names):
    records = [{"row": name, "panel": "p", "value": value} for name, value in (("y", 1.0), ("x", 2.0))]
    dots.dot_plot(records, tmp_path / "dots.png", label="time", percent=False, order=order, line=1)
    assert ticks(drawn[0].axes[0]) == names


def test_panels_of_six_modalities_stand_in_rows_with_own_colours(tmp_path, drawn):
    names = ["audio", "visual", "text", "flow", "imu", "depth"]
    runs = [{"accuracy": 0.8, **{f"accuracy_{name}": 0.1 * index for index, name in enumerate(names)}}]
    dots.plot_accuracies([Row("none", methods="none", runs=runs)], tmp_path / "accuracy.png")
    assert [axis.get_title() for axis in drawn[0].axes] == ["all modalities", *names]
    assert drawn[0].axes[0].get_gridspec().ncols == 4
    colours = [axis.get_lines()[0].get_color() for axis in drawn[0].axes[1:]]
    assert colours == list(modality_colours(names).values()) and len(set(colours)) == 6
    assert not drawn[0].legends  # nothing to compare to


def test_small_differences_are_not_blown_up(tmp_path, drawn):
    dots.plot_accuracies([row("none", 0.9), row("opm", 0.901)], tmp_path / "accuracy.png")
    low, high = drawn[0].axes[0].get_xlim()
    assert high - low == pytest.approx(dots.LEAST_SPAN)


def test_pictures_grow_with_the_rows_and_long_labels_are_wrapped(tmp_path):
    long = "opm:q_base=0.3,lam=0.25+ogm:alpha=0.8,noise=entry_std"
    dots.plot_accuracies([row("none", 0.5), row(long, 0.6)], tmp_path / "few.png")
    dots.plot_accuracies([row(f"mod_drop:p={index}", 0.5, 0.6) for index in range(20)], tmp_path / "many.png")
    first, second = (np.asarray(Image.open(tmp_path / name)) for name in ("few.png", "many.png"))
    assert second.shape[0] > 2 * first.shape[0] and second.shape[1] == first.shape[1]
    lines = dots.wrapped(f"film: {long}", "interaction=mmtm").split("\n")
    assert lines[-1] == "(interaction=mmtm)" and max(map(len, lines)) <= dots.LABEL_WIDTH
    assert "".join(lines[:-1]).replace(" ", "") == f"film:{long}"


def test_nothing_is_drawn_of_nothing(tmp_path):
    assert not dots.plot_accuracies([Row("none", runs=[{"loss": 1.0}])], tmp_path / "accuracy.png")
    assert not (tmp_path / "accuracy.png").exists()


def test_times_are_relative_to_the_reference(tmp_path, drawn):
    rows = [row("none", 0.5), row("opm", 0.5), row("resumed", 0.5), row("fast", 0.5)]
    for one, seconds in zip(rows, (2.0, 3.0, None, 1.0), strict=True):
        one.runs[0] |= {} if seconds is None else {"train_seconds": seconds}
    dots.plot_times(rows, tmp_path / "times.png")
    [axis] = drawn[-1].axes
    assert ticks(axis) == ["fast", "none", "opm", "resumed\n(not measured)"]
    assert marked(axis)[:3] == [0.5, 1.0, 1.5] and np.isnan(marked(axis)[3])
    assert axis.get_xlabel() == "training time (none = 1)"
    for one in rows:
        one.runs[0]["epoch_seconds"] = 2.0
    dots.plot_times(rows, tmp_path / "times.png")
    assert drawn[-1].axes[0].get_xlabel() == "time of an epoch (none = 1)"


def test_types_of_questions_are_no_modalities():
    runs = [{"accuracy": 0.5, "accuracy_on_audio_counting": 0.7, "accuracy_text": 0.4}]
    assert dots.accuracy_metrics([Row("avsd", runs=runs)]) == ["accuracy", "accuracy_text"]


def test_shapley_values_are_points_on_one_scale(tmp_path, drawn):
    def shapley(**values):
        return {"values": values, "coalitions": {}}

    runs = {"two": [shapley(a=0.1, b=0.1), shapley(a=0.3, b=0.3)], "one": [shapley(a=0.5)]}
    dots.plot_shapley(runs, tmp_path / "shapley.png")
    a, b = drawn[0].axes
    assert ticks(a) == ["two", "one"] and marked(a) == pytest.approx([20, 50]) and marked(b) == pytest.approx([20])
    assert a.get_xlim() == b.get_xlim() and marked(b, "|") == pytest.approx([10, 30])
