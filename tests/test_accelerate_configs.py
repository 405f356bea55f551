"""The Accelerate configs of the recipes are read by accelerate itself, and mean what their names say."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils import DistributedType

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "recipes" / "accelerate_configs"
EXPECTED = {
    "cpu": (DistributedType.NO, {"use_cpu": True, "num_processes": 1, "mixed_precision": "no"}),
    "single_gpu": (DistributedType.NO, {"use_cpu": False, "num_processes": 1, "mixed_precision": "bf16"}),
    "ddp": (DistributedType.MULTI_GPU, {"use_cpu": False, "num_machines": 1, "mixed_precision": "bf16"}),
    "fsdp2": (DistributedType.FSDP, {"fsdp_config": {"fsdp_version": 2, "fsdp_cpu_ram_efficient_loading": False}}),
    "deepspeed_zero2": (DistributedType.DEEPSPEED, {"deepspeed_config": {"zero_stage": 2}}),
    "deepspeed_zero3": (
        DistributedType.DEEPSPEED,
        {"deepspeed_config": {"zero_stage": 3, "zero3_save_16bit_model": True}},
    ),
    "multi_node": (DistributedType.MULTI_GPU, {"num_machines": 2, "num_processes": 16, "main_process_port": 29500}),
}


def test_every_config_is_covered():
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_config(name):
    config = load_config_from_file(str(FOLDER / f"{name}.yaml"))
    distributed_type, fields = EXPECTED[name]
    assert config.distributed_type == distributed_type
    for field, expected in fields.items():
        found = getattr(config, field)
        if isinstance(expected, dict):
            assert {key: found[key] for key in expected} == expected
        else:
            assert found == expected, field


@pytest.mark.parametrize("name", EXPECTED)
def test_every_key_is_known_to_accelerate(name):
    """A typo would be an error at launch."""
    path = FOLDER / f"{name}.yaml"
    text = path.read_text(encoding="utf-8")
    assert set(yaml.safe_load(text)) <= set(vars(load_config_from_file(str(path))))
    assert f"accelerate launch --config_file recipes/accelerate_configs/{name}.yaml" in text


@pytest.mark.slow
def test_the_cpu_config_launches(tmp_path):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(FOLDER / "cpu.yaml")),
            *("-m", "hf_bml.commands.train", str(ROOT / "recipes" / "digits" / "opm.yaml")),
            *("--output_dir", str(tmp_path / "run"), "--max_steps", "4", "--num_train_epochs", "1"),
        ],
        capture_output=True, text=True, timeout=280, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "run" / "metrics.json").is_file()
