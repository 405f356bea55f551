"""What every registered modulation must do beside the properties that `test_properties.py` checks."""

from __future__ import annotations

import pytest
import torch
from teachers import save_teachers
from tiny_images import tiny_image_dataset, tiny_image_model

from hf_bml import MODULATIONS, MultimodalBalancedTrainer

STEPS = {"per_device_train_batch_size": 8, "max_steps": 18, "logging_steps": 5, "learning_rate": 0.05}  # 3 epochs


def model_options(name):
    return MODULATIONS[name](**MODULATIONS[name].example_options).needs(("audio", "visual")).model_options


def build(name, args) -> MultimodalBalancedTrainer:
    model = tiny_image_model(**model_options(name))
    return MultimodalBalancedTrainer(model, args, train_dataset=tiny_image_dataset())


def weights(trainer):
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


@pytest.fixture(scope="module")
def plainly_trained():
    """Weights after plain training, by the model's options and the rows: many methods share them."""
    return {}


@pytest.mark.parametrize("name", MODULATIONS)
def test_changes_the_training(training_args, tmp_path, plainly_trained, name):
    options = dict(MODULATIONS[name].example_options)
    folders = save_teachers(tmp_path) if MODULATIONS[name](**options).needs(()).trained_alone else None
    trainer = build(name, training_args(modulations={name: options}, trained_alone=folders, **STEPS))
    trainer.train()
    asked = f"{model_options(name)} {len(trainer.train_dataset)}"
    if asked not in plainly_trained:
        plain = MultimodalBalancedTrainer(
            tiny_image_model(**model_options(name)),
            training_args(modulations={}, **STEPS),
            train_dataset=trainer.train_dataset,
        )
        plain.train()
        plainly_trained[asked] = weights(plain)
    first, second = weights(trainer), plainly_trained[asked]
    assert any(not torch.equal(first[key], second[key]) for key in first)
    assert any(key.startswith(f"{name}/") for logs in trainer.state.log_history for key in logs)


@pytest.mark.parametrize("name", MODULATIONS)
def test_registered_under_its_name(name):
    assert MODULATIONS[name].name == name
