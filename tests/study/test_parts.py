from __future__ import annotations

import json

import pytest

from hf_bml.study.parts import alone_changes


@pytest.mark.parametrize(
    ("multipliers", "expected"),
    [
        ({"encoders.audio": 0.1, "encoders.visual.layers": 0.2, "head": 2}, {"encoders.audio": 0.1, "head": 2}),
        ({"encoders.visual": 0.2}, None),
    ],
)
def test_learning_rates_of_other_encoders_are_left_out(parse, multipliers, expected):
    changes = alone_changes(parse("--lr_multipliers", json.dumps(multipliers)), "audio")
    assert changes["lr_multipliers"] == expected
    assert "lr_multipliers" not in alone_changes(parse("--lr_multipliers", '{"encoders.audio": 2}'), "audio")
