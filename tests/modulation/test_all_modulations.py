"""What every registered modulation must do beside the properties that `test_properties.py` checks."""

from __future__ import annotations

import pytest
import torch
from teachers import save_teachers
from tiny import tiny_model
from tiny_images import tiny_image_dataset, tiny_image_model

from hf_bml import MODULATIONS, MultimodalBalancedTrainer
from hf_bml.modulation import MicroBatch, ModulationStack, Step
from hf_bml.training.losses import named_losses

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


def takes_classes(name):
    """What needs teachers also learns from samples without a label, and tcmax normalises over them."""
    needs = MODULATIONS[name]().needs(("audio", "visual"))
    return needs.classes and not needs.trained_alone and name != "tcmax"


@pytest.mark.parametrize("name", [name for name in MODULATIONS if takes_classes(name)])
def test_rows_without_a_label_change_no_loss(name):
    names, generator = ("audio", "visual"), torch.Generator().manual_seed(0)
    inputs = {"audio": torch.randn(7, 5, generator=generator), "visual": torch.randn(7, 7, generator=generator)}
    labels, model = torch.tensor([0, 2, 1, 1, -100, -100, -100]), tiny_model(**model_options(name)).train()

    def losses(rows, factor=1.0):
        given = {key: torch.cat([value[:4], factor * value[4:rows]]) for key, value in inputs.items()}
        stack = ModulationStack([MODULATIONS[name]()], names)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        # reconboost agrees from its second stage on
        stack.begin_step(Step(names, step=8, max_steps=10, epoch=8.0, optimizer=optimizer))
        stack.begin_micro_batch(MicroBatch({}, labels[:rows]))
        output = model(**given, labels=labels[:rows], modulation=stack)
        return stack.modulate_losses(named_losses(output.loss, output), output)

    expected, others = losses(7), [losses(7, factor=3.0)]
    if name != "mcr":  # which draws other partners in a batch of another size
        others.append(losses(4))
    assert len(expected) > 1
    for key, value in expected.items():
        for found in others:
            torch.testing.assert_close(found[key], value, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("agm", "alpha"), ("curriculum_dropout", "gamma"), ("g2d", "temperature"), ("inforeg", "beta"),
        ("inforeg", "strength"), ("gradient_blending", "estimation_epochs"), ("lfm", "alpha_rate"), ("mcr", "weight"),
        ("mcr", "unimodal_weight"), ("ogm", "alpha"), ("ogm_star", "alpha"), ("ogm_star", "constant"),
        ("relearning", "lam"),
    ],
)  # fmt: skip
def test_what_infinity_would_make_infinite_or_nan_is_refused(name, option):
    with pytest.raises(ValueError, match=f"{option} must be a number in .*, found inf"):
        MODULATIONS[name](**{option: float("inf")})
