from __future__ import annotations

import numpy as np
import pytest

from hf_bml.analysis.coalitions import all_coalitions, coalition_name
from hf_bml.analysis.shapley import shapley_values


def test_two_players():
    """phi_a = ((v(a) - v()) + (v(ab) - v(b))) / 2 = (0.5 + 0.3) / 2, phi_b = (0.3 + 0.1) / 2."""
    scores = {(): 0.1, ("a",): 0.6, ("b",): 0.4, ("a", "b"): 0.7}
    assert shapley_values(scores, ["a", "b"]) == pytest.approx({"a": 0.4, "b": 0.2})


def test_glove_game():
    """One left glove and two right ones: a pair is worth 1. The known solution is 2/3, 1/6, 1/6."""
    scores = {c: float("left" in c and len(c) > 1) for c in all_coalitions(["left", "right", "other"])}
    assert shapley_values(scores, ["left", "right", "other"]) == pytest.approx(
        {"left": 2 / 3, "right": 1 / 6, "other": 1 / 6}
    )


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 6])
def test_efficiency_and_null_player(number):
    names = [f"m{index}" for index in range(number)]
    generator = np.random.default_rng(number)
    scores = {coalition: generator.random() for coalition in all_coalitions(names)}
    assert sum(shapley_values(scores, names).values()) == pytest.approx(scores[tuple(names)] - scores[()])
    idle = {c: generator.random() for c in all_coalitions(names[1:])} if number > 1 else {(): 0.5}
    scores = {c: idle[tuple(name for name in c if name != "m0")] for c in all_coalitions(names)}
    assert shapley_values(scores, names)["m0"] == pytest.approx(0)


def test_coalitions():
    assert all_coalitions(["b", "a", "c"]) == [
        (), ("b",), ("a",), ("c",), ("b", "a"), ("b", "c"), ("a", "c"), ("b", "a", "c")
    ]  # fmt: skip
    assert [coalition_name(c) for c in all_coalitions(["b", "a"])] == ["", "b", "a", "b+a"]
    with pytest.raises(ValueError, match=r"1 to 6 modalities.*found 7"):
        all_coalitions([f"m{index}" for index in range(7)])
    with pytest.raises(ValueError, match="found 0"):
        all_coalitions([])


def test_a_missing_coalition_is_named():
    with pytest.raises(ValueError, match=r"found none of \['\(none\)', 'a\+b'\]"):
        shapley_values({("a",): 0.5, ("b",): 0.5}, ["a", "b"])
