"""The launcher reads every config as it is meant, and the CPU's really starts a training."""

import json
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_multi_gpu_env
from exactness import exact_model
from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy

from hf_bml import MultimodalConfig, MultimodalForClassification

ROOT = Path(__file__).parents[1] / "recipes"
FOLDER = ROOT / "accelerate_configs"
EXPECTED = {
    "cpu": {"distributed_type": DistributedType.NO, "use_cpu": True, "num_processes": 1},
    "single_gpu": {"distributed_type": DistributedType.NO, "use_cpu": False, "num_processes": 1, "gpu_ids": "0"},
    "ddp": {"distributed_type": DistributedType.MULTI_GPU, "num_processes": 2, "num_machines": 1, "gpu_ids": "all"},
    "fsdp2": {"distributed_type": DistributedType.FSDP, "num_processes": 2, "num_machines": 1},
    "deepspeed_zero2": {"distributed_type": DistributedType.DEEPSPEED, "num_processes": 2},
    "deepspeed_zero3": {"distributed_type": DistributedType.DEEPSPEED, "num_processes": 2},
    "multi_node": {
        "distributed_type": DistributedType.MULTI_GPU,
        "num_machines": 2,
        "num_processes": 16,
        "rdzv_backend": "c10d",
        "main_process_port": 29500,
    },
}


def test_all_configs_are_listed():
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(EXPECTED)
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(f"`{name}.yaml`" in readme for name in EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_config(name):
    path = FOLDER / f"{name}.yaml"
    config = load_config_from_file(str(path))  # raises for unknown keys
    assert {key: getattr(config, key) for key in EXPECTED[name]} == EXPECTED[name]
    assert config.mixed_precision == "no", "precision is the recipe's"
    assert bool(config.fsdp_config) == (name == "fsdp2")
    assert bool(config.deepspeed_config) == name.startswith("deepspeed")
    assert f"accelerate launch --config_file recipes/accelerate_configs/{name}.yaml" in path.read_text(
        encoding="utf-8"
    )


@pytest.mark.parametrize("stage", [2, 3])
def test_deepspeed_takes_its_numbers_from_the_training_arguments(stage):
    config = load_config_from_file(str(FOLDER / f"deepspeed_zero{stage}.yaml")).deepspeed_config
    assert config["zero_stage"] == stage
    assert config["gradient_accumulation_steps"] == config["gradient_clipping"] == "auto"
    assert config["offload_optimizer_device"] == config["offload_param_device"] == "none"
    assert config.get("zero3_save_16bit_model", False) == (stage == 3), "else ZeRO-3 saves no model.safetensors"


def test_what_fsdp2_is_launched_with():
    """From the file to the environment of the processes to the plugin that they make of it."""
    args = launch_command_parser().parse_args(["--config_file", str(FOLDER / "fsdp2.yaml"), "train.py"])
    environment = prepare_multi_gpu_env(_validate_launch_command(args)[0])
    assert environment["ACCELERATE_USE_FSDP"] == "true"
    with mock.patch.dict(os.environ, environment):
        plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2
    assert plugin.reshard_after_forward is True
    assert plugin.cpu_ram_efficient_loading is False
    assert plugin.auto_wrap_policy is transformer_auto_wrap_policy
    assert str(plugin.state_dict_type) == "StateDictType.FULL_STATE_DICT", "else no model.safetensors is saved"
    plugin.set_auto_wrap_policy(exact_model())
    assert plugin.auto_wrap_policy.keywords["transformer_layer_cls"] == {torch.nn.TransformerEncoderLayer}


def test_blocks_of_transformers_encoders_are_kept_whole():
    bert = {"model_type": "bert", "vocab_size": 9, "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = MultimodalConfig(
        modalities={
            "text": {"type": "transformers", "config": {**bert, "intermediate_size": 4}},
            "audio": {"type": "sequence", "input_size": 3, "hidden_size": 4, "num_heads": 1, "num_layers": 1},
        },
        num_labels=2,
    )
    model = MultimodalForClassification(config)
    assert model._no_split_modules == {"BertEmbeddings", "BertLayer", "TransformerEncoderLayer"}
    assert model.get_input_embeddings() is None


@pytest.mark.slow
def test_launching_on_the_cpu(tmp_path):
    launch = f"-m accelerate.commands.launch --config_file {FOLDER / 'cpu.yaml'} -m hf_bml.commands.train"
    steps = "--max_steps 4 --eval_strategy steps --eval_steps 4 --save_strategy steps --save_steps 4 --logging_steps 2"
    command = [sys.executable, *launch.split(), str(ROOT / "digits" / "opm.yaml"), *steps.split()]
    done = subprocess.run(
        [*command, "--logging_strategy", "steps", "--output_dir", str(tmp_path / "run")],
        capture_output=True, text=True, timeout=280,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_DATASETS_CACHE": str(tmp_path / "cache")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    state = json.loads((tmp_path / "run" / "trainer_state.json").read_text())
    assert state["global_step"] == 4
    assert "opm/drop_probability_audio" in state["log_history"][0]
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["environment"]["processes"] == 1
    assert 0 <= metrics["test"]["accuracy"] <= 1
