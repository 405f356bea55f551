import pytest

from hf_bml.figures.reliability import merged_bins, plot_reliability


def calibration(*bins):
    keys = ("lower", "confidence", "accuracy", "count")
    return {"ece": 0.1, "bins": [dict(zip(keys, values, strict=True)) for values in bins]}


def test_bins_of_seeds_are_weighted_by_their_counts():
    first = calibration((0.0, 0.2, 0.0, 1))
    second = calibration((0.5, 0.9, 1.0, 2), (0.0, 0.4, 1.0, 3))
    confidence, accuracy, count = merged_bins([first, second])
    assert confidence == pytest.approx([0.35, 0.9]) and accuracy == pytest.approx([0.75, 1.0])
    assert count.tolist() == [4, 2]


def test_a_column_per_prediction(tmp_path, drawn):
    one = [calibration((0.0, 0.25, 0.5, 1), (0.5, 0.75, 0.5, 3))]
    plot_reliability({"joint": {"concat": one, "opm": one}, "a": {"opm": one}}, tmp_path / "calibration.png")
    joint, a, joint_shares, _ = drawn[0].axes
    assert [axis.get_title() for axis in (joint, a)] == ["all modalities", "a"]
    assert [len(axis.get_lines()) for axis in (joint, a)] == [3, 2]  # with the diagonal
    assert joint_shares.get_lines()[0].get_ydata().tolist() == [0.25, 0.75]
    assert joint.get_lines()[2].get_color() == a.get_lines()[1].get_color()
