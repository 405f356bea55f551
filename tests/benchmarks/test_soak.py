"""A shorter soak: flat memory, finite numbers, a log of sane size."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "recipes" / "benchmarks"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the memory of the process from /proc")
def test_memory_stays_flat_and_numbers_finite(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    soak = importlib.import_module("soak")
    try:
        result = soak.soak(2000, str(tmp_path))
    finally:
        sys.modules.pop("soak"), sys.modules.pop("workload")
    assert soak.growth(result["memory"]) < 2  # MiB
    logged = [entry for entry in result["history"] if "loss" in entry]
    assert len(logged) == 40
    for key in logged[0]:
        soak.finite_range(logged, key)
    assert logged[-1]["loss"] < logged[0]["loss"]
    assert result["state_bytes"] < 64 * 1024
