"""What every registered modulation must do, with its default options; a new entry of MODULATIONS is covered."""

import json
import math
from dataclasses import fields

import pytest
import torch
from tiny_images import MODALITIES, tiny_image_dataset, tiny_image_model
from torch.profiler import ProfilerActivity, profile

from hf_bml import MODULATIONS, MultimodalBalancedTrainer
from hf_bml.study.parser import nested_options
from hf_bml.training.trainer import MODULATION_STATE_NAME

STEPS = {"per_device_train_batch_size": 8, "max_steps": 18, "logging_steps": 5, "learning_rate": 0.05}  # 3 epochs


def build(name, args, modalities=("audio", "visual"), seed=0) -> MultimodalBalancedTrainer:
    model = tiny_image_model(modalities, seed, **MODULATIONS[name]().needs(()).model_options)
    return MultimodalBalancedTrainer(model, args, train_dataset=tiny_image_dataset(modalities))


def weights(trainer):
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("name", MODULATIONS)
def test_trains_and_moves_every_parameter(training_args, name, count):
    """A method that cannot do with one or three modalities must say so when the trainer is built."""
    args = training_args(modulations={name: {}}, **STEPS)
    try:
        trainer = build(name, args, MODALITIES[:count])
    except ValueError as error:
        assert count != 2 and "modalit" in str(error)
        return
    before = {key: parameter.detach().clone() for key, parameter in trainer.model.named_parameters()}
    trainer.train()
    for key, parameter in trainer.model.named_parameters():
        assert torch.isfinite(parameter).all(), key
        assert not torch.equal(before[key], parameter), key
    json.dumps(trainer.modulation.summary())


@pytest.mark.parametrize("name", MODULATIONS)
def test_changes_the_training(training_args, name):
    trainer = build(name, training_args(modulations={name: {}}, **STEPS))
    plain = MultimodalBalancedTrainer(
        tiny_image_model(**MODULATIONS[name]().needs(()).model_options),
        training_args(modulations={}, **STEPS),
        train_dataset=trainer.train_dataset,
    )
    trainer.train()
    plain.train()
    first, second = weights(trainer), weights(plain)
    assert any(not torch.equal(first[key], second[key]) for key in first)
    assert any(key.startswith(f"{name}/") for key in trainer.state.log_history[0])


@pytest.mark.parametrize("name", MODULATIONS)
def test_samples_that_lack_a_modality_in_bf16(training_args, name):
    """Every third sample lacks the first modality, and the last batches lack the second altogether."""

    def collate(rows):
        batch = {key: torch.stack([row[key] for row in rows]) for key in rows[0]}
        mask = torch.ones(len(rows), 2, dtype=torch.bool)
        mask[::3, 0] = False
        whole = not trainer.model.training or trainer.state.global_step < 15
        return {**batch, "visual": batch["visual"] if whole else None, "modality_mask": mask if whole else None}

    trainer = build(name, training_args(modulations={name: {}}, bf16=True, **STEPS))
    trainer.data_collator = collate
    trainer.train()
    for key, parameter in trainer.model.named_parameters():
        assert torch.isfinite(parameter).all(), key
    for entry in trainer.state.log_history:
        assert all(math.isfinite(value) for key, value in entry.items() if "/" in key), entry


@pytest.mark.parametrize("name", MODULATIONS)
def test_resuming_is_bitwise(training_args, tmp_path, name):
    """The cut lies within the third epoch and between two log events."""
    options = {**STEPS, "modulations": {name: {}}, "lr_scheduler_type": "cosine", "gradient_accumulation_steps": 2}
    options["per_device_train_batch_size"] = 4
    whole = build(name, training_args(output_dir=str(tmp_path / "whole"), **options))
    whole.train()
    folder = str(tmp_path / "cut")
    build(name, training_args(output_dir=folder, save_strategy="steps", save_steps=14, **options)).train()
    checkpoint = tmp_path / "cut" / "checkpoint-14"
    torch.load(checkpoint / MODULATION_STATE_NAME, weights_only=True)
    resumed = build(name, training_args(output_dir=folder, **options), seed=9)
    resumed.train(resume_from_checkpoint=str(checkpoint))
    first, second = weights(whole), weights(resumed)
    assert all(torch.equal(first[key], second[key]) for key in first)
    for before, after in zip(whole.state.log_history, resumed.state.log_history, strict=True):
        keys = [key for key in before if "/" in key and not key.endswith("seconds")]
        assert {key: before[key] for key in keys} == {key: after[key] for key in keys}
    assert_equal_states(whole.modulation.state_dict(), resumed.modulation.state_dict())


def assert_equal_states(first, second, path=""):
    assert type(first) is type(second), path
    if isinstance(first, dict):
        assert first.keys() == second.keys(), path
        for key in first:
            assert_equal_states(first[key], second[key], f"{path}/{key}")
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second), path
        for index, pair in enumerate(zip(first, second, strict=True)):
            assert_equal_states(*pair, f"{path}/{index}")
    elif isinstance(first, torch.Tensor):
        torch.testing.assert_close(first, second, rtol=0, atol=0, equal_nan=True)
    elif not path.endswith("seconds"):
        assert first == second, path


@pytest.mark.parametrize("name", MODULATIONS)
def test_no_host_sync_in_a_step(training_args, name):
    """`.item()` and friends are `_local_scalar_dense`. Early steps may prepare something: the last two are watched."""
    trainer = build(name, training_args(modulations={name: {}}, **{**STEPS, "logging_steps": 100}))
    step, syncs = trainer.training_step, []

    def watched(*arguments, **options):
        if trainer.state.global_step < STEPS["max_steps"] - 2:
            return step(*arguments, **options)
        with profile(activities=[ProfilerActivity.CPU]) as record:
            result = step(*arguments, **options)
        syncs.append([event.key for event in record.key_averages() if "_local_scalar_dense" in event.key])
        return result

    trainer.training_step = watched
    trainer.train()
    assert syncs == [[], []]


@pytest.mark.parametrize("name", MODULATIONS)
def test_the_help_shows_every_option(name):
    text = nested_options()
    for option in fields(MODULATIONS[name].config_class):
        assert f"--modulations.{name}.{option.name}\n" in text
        assert option.metadata["help"] in text


@pytest.mark.parametrize("name", MODULATIONS)
def test_registered_under_its_name(name):
    assert MODULATIONS[name].name == name
