from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from hf_bml.figures.classes import (
    class_accuracies,
    class_rows,
    most_confused,
    plot_classes,
    plot_confusion,
    row_shares,
    select_classes,
)


def analysis(**per_class):
    count = len(next(iter(per_class.values())))
    return {"classes": [f"c{i}" for i in range(count)], "counts": [4] * count, "per_class": per_class}


def test_means_over_seeds_and_classes_without_samples():
    seeds = [analysis(joint=[0.5, None], a=[1.0, 0.0]), analysis(joint=[0.7, None], a=[0.0, 0.5])]
    values = class_accuracies(seeds, "joint")
    assert values[0] == pytest.approx(0.6) and math.isnan(values[1])
    assert class_accuracies(seeds, "b") is None
    header, rows = class_rows(seeds)
    assert header == ["class", "number", "samples", "all modalities", "a"]
    assert rows == [["c0", "0", "4", "60.0", "50.0"], ["c1", "1", "4", "-", "25.0"]]


def test_of_many_classes_those_where_each_modality_leads():
    a = [0.9, 0.5, 0.5, 0.1, 0.8, 0.5]
    b = [0.1, 0.5, 0.5, 0.9, 0.5, 0.9]
    assert select_classes({"run": [analysis(joint=a, a=a, b=b)]}, most=4) == [0, 3, 4, 5]
    assert select_classes({"run": [analysis(joint=a, a=a, b=b)]}, most=6) == list(range(6))
    assert select_classes({"run": [analysis(joint=a, a=a)]}, most=2) == [0, 3]  # one modality: best and worst


def test_a_panel_per_prediction_and_a_dot_per_run(tmp_path, drawn):
    runs = {"concat": [analysis(joint=[0.5, 0.25], a=[0.5, None])], "opm": [analysis(joint=[0.5, 0.75], a=[0.1, 0.2])]}
    plot_classes(runs, tmp_path / "classes.png")
    joint, a = drawn[0].axes
    assert [label.get_text() for label in joint.get_yticklabels()] == ["c0", "c1"]  # both 0.5 on average
    assert {line.get_label(): line.get_xdata().tolist() for line in joint.get_lines()} == {
        "concat": [0.5, 0.25],
        "opm": [0.5, 0.75],
    }
    assert np.isnan(a.get_lines()[0].get_xdata()[1]) and joint.get_xlim() == a.get_xlim()


def test_many_classes_say_so(tmp_path, drawn):
    values = [i / 100 for i in range(100)]
    plot_classes({"run": [analysis(joint=values, a=values, b=values[::-1])]}, tmp_path / "many.png")
    assert drawn[0].get_suptitle() == "12 of 100 classes"


def test_rows_are_shares_of_the_true_class():
    assert row_shares([[3, 1], [0, 0]]).tolist() == [[0.75, 0.25], [0, 0]]


def test_the_largest_confusions_first():
    found = most_confused([[5, 1, 4], [2, 8, 0], [0, 1, 1]], ["a", "b", "c"], most=3)
    assert found == [("a", "c", 4, 0.4), ("b", "a", 2, 0.2), ("c", "b", 1, 0.5)]


@pytest.mark.parametrize(
    ("count", "numbers", "ticks"), [(6, 6, 6), (20, 0, 20), (120, 0, 12)], ids=["few", "some", "many"]
)
def test_readable_for_any_number_of_classes(tmp_path, drawn, count, numbers, ticks):
    names = [f"a class with a rather long name {i}" for i in range(count)]
    plot_confusion(np.eye(count, dtype=int) * 5, names, tmp_path / "confusion.png")
    axis = drawn[0].axes[0]
    assert len(axis.texts) == numbers
    assert len(axis.get_xticks()) == len(axis.get_yticks()) == ticks
    assert max(len(label.get_text()) for label in axis.get_yticklabels()) <= 24
    assert max(Image.open(tmp_path / "confusion.png").size) <= 1300
