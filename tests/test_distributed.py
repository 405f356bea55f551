"""Two gloo processes on the CPU: the update of the big batch, equal ranks, different masks, bitwise resume."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.slow
WORKER = Path(__file__).with_name("distributed_worker.py")


def launch(processes: int, case: str, output: Path, *options: str) -> list[dict]:
    """Runs the worker and returns what each rank wrote."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(WORKER), case, str(output), *options],
        capture_output=True, text=True, env=environment, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    results = [torch.load(output / f"rank{rank}.pt", weights_only=True) for rank in range(processes)]
    assert [result["world_size"] for result in results] == [processes] * processes
    return results


def assert_close(first: dict, second: dict, tolerance: float) -> None:
    for name, value in first["weights"].items():
        torch.testing.assert_close(value, second["weights"][name], atol=tolerance, rtol=0)


@pytest.mark.parametrize("case", ["ogm_ge", "own_loss", "gradient_blending", "greedy"])
def test_two_ranks_give_the_update_of_one_process(tmp_path, case):
    (one,) = launch(1, case, tmp_path / "one")
    two = launch(2, case, tmp_path / "two")
    assert_close(two[0], two[1], 0)
    assert_close(one, two[0], 1e-10)
    logs = json.loads(one["logs"])
    assert case != "greedy" or any(logs[f"greedy/rebalancing_{name}"] for name in ("audio", "visual"))
    for key, value in logs.items():
        if not key.endswith("seconds"):
            assert json.loads(two[0]["logs"])[key] == pytest.approx(value, abs=1e-6), key
    accumulated = launch(2, case, tmp_path / "accumulated", "--accumulate")
    assert_close(one, accumulated[0], 1e-10)


def test_masks_differ_between_ranks_and_weights_do_not(tmp_path):
    first, second = launch(2, "opm", tmp_path)
    assert_close(first, second, 0)
    assert not torch.equal(first["masks"], second["masks"])


def test_resuming_two_ranks_is_bitwise(tmp_path):
    whole = launch(2, "opm+ogm_ge", tmp_path / "whole")
    launch(2, "opm+ogm_ge", tmp_path / "cut", "--save")
    resumed = launch(2, "opm+ogm_ge", tmp_path / "cut", "--resume")
    for before, after in zip(whole, resumed, strict=True):
        assert_close(before, after, 0)
        assert before["logs"] == after["logs"]
