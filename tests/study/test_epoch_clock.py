from __future__ import annotations

import types

import pytest

from hf_bml.study import epoch_clock
from hf_bml.study.epoch_clock import EpochClock


@pytest.fixture
def clock(monkeypatch):
    """A clock and a function that lets seconds pass before an event."""
    now = [100.0]
    monkeypatch.setattr(epoch_clock.time, "perf_counter", lambda: now[0])
    clock = EpochClock()

    def event(name, after=0.0, epoch=0.0):
        now[0] += after
        getattr(clock, f"on_{name}")(None, types.SimpleNamespace(epoch=epoch), None)

    return clock, event


def test_evaluations_and_saves_are_left_out(clock):
    clock, event = clock
    event("epoch_begin", epoch=None)
    event("step_end", after=2.0, epoch=0.5)
    event("log", after=0.5, epoch=0.5)
    event("evaluate", after=10.0, epoch=0.5)
    event("save", after=5.0, epoch=0.5)
    event("step_end", after=3.0, epoch=1.0)
    event("epoch_end", epoch=1.0)
    event("evaluate", after=50.0, epoch=1.0)
    event("epoch_begin", after=7.0, epoch=1.0)
    event("step_end", after=1.0, epoch=2.0)
    event("epoch_end", after=0.25, epoch=2.0)
    assert clock.seconds == [5.5, 1.25]


def test_only_whole_epochs(clock):
    clock, event = clock
    for begin, end in [(0.5, 1.0), (1.0, 2.0), (2.0, 2.5)]:
        event("epoch_begin", epoch=begin)
        event("epoch_end", after=4.0, epoch=end)
    assert clock.seconds == [4.0]
