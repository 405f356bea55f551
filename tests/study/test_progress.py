from __future__ import annotations

import pytest

from hf_bml.study.progress import CompactProgressCallback


@pytest.mark.parametrize(
    ("logs", "line"),
    [
        (
            {"loss": 0.5, "epoch": 2.0, "balance/ratio_a": 1.5, "balance/ratio_b": 0.75},
            "epoch   2.00  train loss 0.5000, ratio a 1.50, b 0.75",
        ),
        (
            {"eval_loss": 0.25, "eval_accuracy": 0.5, "epoch": 1.0},
            "epoch   1.00  validation loss 0.2500, accuracy 0.5000",
        ),
        ({"train_runtime": 3.0}, ""),
    ],
)
def test_one_line_per_event(logs, line):
    assert CompactProgressCallback(["a", "b"]).summary(logs) == line
