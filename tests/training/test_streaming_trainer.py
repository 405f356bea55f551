"""Two processes on a stream read different rows, and predict every row once."""

from __future__ import annotations

import os
import sys

import pytest
import resume_worker
from resume_worker import run

ROWS = 51


@pytest.mark.slow
@pytest.mark.parametrize(("shards", "sizes"), [(4, (26, 25)), (3, (26, 25))], ids=["own shards", "every second row"])
def test_two_processes_share_no_row(tmp_path, monkeypatch, shards, sizes):
    resume_worker.CONTEXT.set_forkserver_preload(["resume_worker"])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    options = {"eval_strategy": "steps", "eval_steps": 18, "per_device_eval_batch_size": 5, "save_strategy": "no"}
    outcomes = run(tmp_path, processes=2, shards=shards, **options)
    parts = [outcome["seen"][:size] for outcome, size in zip(outcomes, sizes, strict=True)]
    assert sorted(parts[0] + parts[1]) == list(range(ROWS))
    later = [outcome["seen"][size : 2 * size] for outcome, size in zip(outcomes, sizes, strict=True)]
    assert [len(set(part)) for part in later] == list(sizes) and later != parts
    for outcome in outcomes:  # uneven parts: in the last of six steps the second process has no row of its own
        assert sorted(number for batch in outcome["predicted"] for number in batch) == list(range(ROWS))
