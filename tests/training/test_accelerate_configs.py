"""The Accelerate configs of the recipes are read by accelerate itself, and mean what their names say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_multi_gpu_env
from exactness import exact_model
from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy

from hf_bml import MultimodalConfig, MultimodalForClassification
from hf_bml.models.encoders.sequence import TransformerEncoderLayer

ROOT = Path(__file__).parents[2]
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


@pytest.mark.parametrize("stage", [2, 3])
def test_deepspeed_takes_its_numbers_from_the_training_arguments(stage):
    config = load_config_from_file(str(FOLDER / f"deepspeed_zero{stage}.yaml"))
    assert config.deepspeed_config["gradient_accumulation_steps"] == "auto"
    assert config.deepspeed_config["gradient_clipping"] == "auto"
    assert config.mixed_precision == "no", "else a recipe without `bf16: true` does not start"


def test_what_fsdp2_is_launched_with():
    """From the file to the environment of the processes to the plugin that they make of it."""
    args = launch_command_parser().parse_args(["--config_file", str(FOLDER / "fsdp2.yaml"), "train.py"])
    environment = prepare_multi_gpu_env(_validate_launch_command(args)[0])
    assert environment["ACCELERATE_USE_FSDP"] == "true"
    with mock.patch.dict(os.environ, environment):
        plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2
    assert plugin.reshard_after_forward is True
    assert plugin.auto_wrap_policy is transformer_auto_wrap_policy
    assert str(plugin.state_dict_type) == "StateDictType.FULL_STATE_DICT", "else no model.safetensors is saved"
    plugin.set_auto_wrap_policy(exact_model())
    assert plugin.auto_wrap_policy.keywords["transformer_layer_cls"] == {TransformerEncoderLayer}


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
def test_the_cpu_config_launches(tmp_path):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(FOLDER / "cpu.yaml")),
            *("-m", "hf_bml.commands.train", str(ROOT / "recipes" / "digits" / "opm.yaml")),
            *("--output_dir", str(tmp_path / "run"), "--max_steps", "4", "--num_train_epochs", "1"),
        ],
        capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "run" / "metrics.json").is_file()
