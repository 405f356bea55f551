from __future__ import annotations

import io
import sys

import pytest
from transformers import TrainerState

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


class Screen(io.StringIO):
    """What is written to a terminal, or to a file in its place."""

    def __init__(self, is_terminal):
        super().__init__()
        self.is_terminal = is_terminal

    def isatty(self):
        return self.is_terminal


@pytest.mark.parametrize("is_terminal", [True, False])
def test_bars_are_drawn_on_a_terminal_only(monkeypatch, capsys, is_terminal):
    monkeypatch.setattr(sys, "stderr", screen := Screen(is_terminal))
    callback, state = CompactProgressCallback(["a"]), TrainerState(max_steps=3, is_world_process_zero=True)
    callback.on_train_begin(None, state, None)
    state.global_step = 3
    callback.on_step_end(None, state, None)
    callback.on_log(None, state, None, logs={"loss": 0.5, "epoch": 1.0})
    callback.on_prediction_step(None, state, None, eval_dataloader=[1, 2])
    callback.on_evaluate(None, state, None)
    callback.on_train_end(None, state, None)
    assert ("%|" in screen.getvalue()) == is_terminal
    assert is_terminal or not screen.getvalue()
    assert "train loss 0.5000" in capsys.readouterr().out
