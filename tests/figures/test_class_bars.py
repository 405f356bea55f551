import math

import pytest

from hf_bml.figures.class_bars import class_accuracies, class_rows, plot_classes, select_classes


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


def test_a_panel_per_prediction_and_a_bar_per_run(tmp_path, drawn):
    runs = {"concat": [analysis(joint=[0.5, 0.25], a=[0.5, None])], "opm": [analysis(joint=[1.0, 0.75])]}
    plot_classes(runs, tmp_path / "classes.png")
    joint, a = drawn[0].axes
    assert [[patch.get_width() for patch in bars] for bars in joint.containers] == [[0.5, 0.25], [1.0, 0.75]]
    assert len(a.containers) == 1 and [label.get_text() for label in joint.get_yticklabels()] == ["c0", "c1"]


def test_many_classes_say_so(tmp_path, drawn):
    values = [i / 100 for i in range(100)]
    plot_classes({"run": [analysis(joint=values, a=values, b=values[::-1])]}, tmp_path / "many.png")
    assert drawn[0].get_suptitle() == "12 of 100 classes"
