from __future__ import annotations

import pytest

from hf_bml.figures.reliability import merged_bins, plot_reliability


def calibration(*bins):
    keys = ("lower", "confidence", "accuracy", "count")
    return {"ece": 0.1, "bins": [dict(zip(keys, values, strict=True)) for values in bins]}


def test_bins_of_seeds_are_weighted_by_their_counts():
    first = calibration((0.0, 0.2, 0.0, 1))
    second = calibration((0.5, 0.9, 1.0, 2), (0.0, 0.4, 1.0, 3))
    merged = merged_bins([first, second])
    assert merged["confidence"].tolist() == pytest.approx([0.35, 0.9])
    assert merged["accuracy"].tolist() == pytest.approx([0.75, 1.0]) and merged["count"].tolist() == [4, 2]


def test_panels_per_prediction_above_shares(tmp_path, drawn):
    one = [calibration((0.0, 0.25, 0.5, 10), (0.5, 0.75, 0.5, 30))]
    plot_reliability({"joint": {"concat": one, "opm": one}, "a": {"opm": one}}, tmp_path / "calibration.png")
    joint, a, joint_shares, _ = drawn[0].axes
    assert [axis.get_title() for axis in (joint, a)] == ["all modalities", "a"]
    assert [len(axis.get_lines()) for axis in (joint, a)] == [3, 2]  # with the diagonal
    assert joint_shares.get_lines()[0].get_ydata().tolist() == [0.25, 0.75]
    assert joint.get_lines()[2].get_color() == a.get_lines()[1].get_color()


def test_near_empty_bins_are_left_out_and_not_joined_across(tmp_path, drawn):
    bins = [(0.0, 0.1, 0.2, 10), (0.25, 0.3, 0.4, 20), (0.5, 0.6, 0.0, 9), (0.75, 0.9, 0.8, 50)]
    plot_reliability({"joint": {"run": [calibration(*bins)]}}, tmp_path / "calibration.png")
    upper, shares = drawn[0].axes
    _, first, second = upper.get_lines()
    assert (first.get_xdata().tolist(), second.get_xdata().tolist()) == ([0.1, 0.3], [0.9])
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == ["perfectly calibrated", "run"]
    assert len(shares.get_lines()[0].get_xdata()) == 4  # what is left out is seen here


def test_seven_predictions_stand_in_two_rows(tmp_path, drawn):
    names = ["joint", *"abcdef"]
    plot_reliability(
        {name: {"run": [calibration((0.5, 0.75, 0.5, 30))]} for name in names}, tmp_path / "calibration.png"
    )
    titles = [axis.get_title() for axis in drawn[0].axes]
    assert [title for title in titles if title] == ["all modalities", *"abcdef"] and len(titles) == 14
