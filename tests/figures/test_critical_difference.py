from __future__ import annotations

import pytest
from PIL import Image

from hf_bml.analysis.ranks import Ranks
from hf_bml.figures.critical_difference import plot_critical_difference


def ranks(mean_ranks, difference):
    return Ranks(mean_ranks, ["a", "b", "c"], [], "none", (6.0, 0.05), difference, {}, {})


def test_methods_stand_at_their_ranks_and_bars_join_what_is_not_told_apart(tmp_path, drawn):
    found = ranks({"opm": 1.0, "ogm": 1.5, "none": 3.5, "dgl": 4.0}, 1.0)
    assert plot_critical_difference(found, tmp_path / "ranks.png", "three sets")
    [axis] = drawn[0].axes
    texts = {text.get_text(): text for text in axis.texts}
    assert "critical difference 1.00" in texts
    for (name, rank), is_left in zip(found.mean_ranks.items(), (True, True, False, False), strict=True):
        x, y = texts[name].get_position()
        assert y == texts[f"{rank:.2f}"].get_position()[1] and (x < 1 if is_left else x > 4)
        assert texts[name].get_weight() == ("bold" if name == "none" else "normal")
    leaders = [line for line in axis.get_lines() if len(line.get_xdata()) == 3]
    assert [line.get_xdata()[0] for line in leaders] == [1.0, 1.5, 3.5, 4.0]
    bars = [list(line.get_xdata()) for line in axis.get_lines() if line.get_linewidth() == 3.5]
    assert bars == [pytest.approx([0.97, 1.53]), pytest.approx([3.47, 4.03])]
    [low, high] = next(line.get_xdata() for line in axis.get_lines() if line.get_marker() == "|")
    assert high - low == 1.0
    assert Image.open(tmp_path / "ranks.png").size[0] > 900


def test_without_a_critical_difference_there_is_no_picture(tmp_path):
    assert not plot_critical_difference(ranks({"opm": 1.0, "none": 2.0}, None), tmp_path / "ranks.png")
    assert not (tmp_path / "ranks.png").exists()
