"""DeepSpeed ZeRO-2 and ZeRO-3 take the steps of one plain process, with OPM and with OGM in the graph.

Runs where `deepspeed` is installed (it is no dependency); its first launch compiles for a minute or two.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from deepspeed_worker import RUNS, STAGES, train_bert
from exactness import Run, train

from hf_bml import MultimodalForClassification

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="deepspeed is not installed"),
]
WORKER = Path(__file__).parents[1].joinpath("deepspeed_worker.py")
RECIPES = Path(__file__).parents[2] / "recipes"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("deepspeed")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*command, str(WORKER), str(folder)], capture_output=True, text=True, env=ENVIRONMENT, timeout=580
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


@pytest.mark.parametrize("stage", STAGES)
def test_the_accelerate_config(tmp_path, stage):
    """On the CPU Accelerate needs `use_cpu` to see several processes."""
    config = RECIPES / "accelerate_configs" / f"deepspeed_zero{stage}.yaml"
    launch = f"-m accelerate.commands.launch --config_file {config} --num_processes 2 -m hf_bml.commands.train"
    steps = "--max_steps 4 --eval_strategy steps --eval_steps 2 --save_strategy steps --save_steps 2 --use_cpu true"
    ogm = '--modulations={"opm": {}, "ogm": {"placement": "graph"}}'
    command = [sys.executable, *launch.split(), str(RECIPES / "digits" / "opm.yaml"), *steps.split(), ogm]
    done = subprocess.run(
        [*command, "--output_dir", str(tmp_path / "run")],
        capture_output=True, text=True, timeout=280, env={**ENVIRONMENT, "HF_DATASETS_CACHE": str(tmp_path / "cache")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "run" / "checkpoint-4" / "global_step4").is_dir()  # DeepSpeed's
    model = MultimodalForClassification.from_pretrained(tmp_path / "run")
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
