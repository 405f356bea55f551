"""DeepSpeed ZeRO-2 and ZeRO-3 take the steps of one plain process, with OPM and with OGM in the graph.

Runs where `deepspeed` is installed (it is no dependency); its first launch compiles for a minute or two.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from deepspeed_worker import RUNS, STAGES, train_bert
from exactness import Run, train

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="deepspeed is not installed"),
]
WORKER = Path(__file__).with_name("deepspeed_worker.py")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("deepspeed")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    done = subprocess.run(
        [*command, str(WORKER), str(folder)], capture_output=True, text=True, env=environment, timeout=580
    )
    assert done.returncode == 0, done.stderr[-6000:]
    outcomes = [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]
    assert [outcome["world_size"] for outcome in outcomes] == [2, 2]
    return outcomes


def assert_close(first, second, tolerance):
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(value.detach(), second[name].detach(), atol=tolerance, rtol=0)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", RUNS)
def test_deepspeed_takes_the_steps_of_one_process(ranks, name, stage):
    first, second = (outcome["runs"][f"{name} {stage}"] for outcome in ranks)
    assert first["kind"] == "DeepSpeedEngine"
    assert_close(first["weights"], second["weights"], 0)
    expected = train(RUNS[name].whole)
    assert_close(expected["weights"], first["weights"], 1e-6)
    for key, value in first["logs"].items():
        if "drop_fraction" not in key:  # of the main process's samples
            assert value == pytest.approx(expected["logs"][key], abs=1e-5), key


def test_a_transformers_encoder_under_zero_3(ranks):
    """Transformers initialises it on the main process only; DeepSpeed hands its weights out."""
    start = ranks[0]["bert"]["first"]
    for outcome in ranks:
        assert_close(train_bert(Run("graph"), start)[1], outcome["bert"]["last"], 1e-6)


def test_ogm_on_the_gradients_names_the_way_out(ranks):
    assert "DeepSpeed steps inside backward" in ranks[0]["refusal"]
    assert "placement: graph" in ranks[0]["refusal"]
