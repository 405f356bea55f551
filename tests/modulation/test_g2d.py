from __future__ import annotations

import pytest
import torch
from teachers import NAMES, loaded, save_teachers, taught_trainer
from tiny import hand_computed_case
from tiny_images import tiny_image_model
from torch import nn

from hf_bml.modulation import G2D, OGM, Gradients, InfoReg, ModulationStack, Step
from hf_bml.modulation.teachers import divergence

TAUGHT = torch.tensor([[0.9, 0.1]]).log()


@pytest.mark.parametrize(("temperature", "expected"), [(1.0, 0.006645), (2.0, 0.014887)])
def test_the_divergence_of_the_worked_example(temperature, expected):
    logits, _ = hand_computed_case()
    joint = sum(logits.values())[:1].requires_grad_()
    found = divergence(TAUGHT, joint, temperature)
    assert found.item() == pytest.approx(expected, abs=5e-7)
    found.backward()
    expected = temperature * ((joint / temperature).softmax(-1) - (TAUGHT / temperature).softmax(-1))
    torch.testing.assert_close(joint.grad, expected.detach())


def test_divergence_of_present_samples():
    logits = torch.cat([TAUGHT, TAUGHT + 3, -TAUGHT])  # a shift of all logits changes nothing
    taught = TAUGHT.expand(3, 2)
    assert divergence(taught, logits, 1.0, torch.tensor([True, True, False])).item() == pytest.approx(0, abs=1e-7)
    assert divergence(taught, logits, 1.0, torch.tensor([False, False, False])).item() == 0
    segments = torch.stack([taught, logits])  # batch, segments, labels
    assert divergence(segments, segments, 2.0).item() == 0


@pytest.mark.parametrize("freeze", ["encoder", "gradient"])
def test_the_encoder_with_the_better_teacher_is_frozen(training_args, tmp_path, freeze):
    """By its head's bias, visual's teacher never says class 3, which no sample has, and audio's always does."""
    folders = save_teachers(tmp_path, num_labels=4)
    trainer = taught_trainer(
        tiny_image_model(num_labels=4),
        training_args(modulations={"g2d": {"freeze": freeze}}, max_steps=8, logging_steps=1),
        folders,
    )
    for name, sign in zip(NAMES, (1, -1), strict=True):
        teacher = tiny_image_model((name,), seed=1, num_labels=4)
        with torch.no_grad():
            teacher.head.classifier[-1].weight.zero_()
            teacher.head.classifier[-1].bias.copy_(torch.tensor([0, 0, 0, 9 * sign]))
        teacher.save_pretrained(folders[name])
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "g2d/frozen_audio" in entry]
    assert [entry["g2d/frozen_audio"] for entry in logs] == [0] * 8
    first = 0 if freeze == "encoder" else 1  # nothing is known before the first step
    assert [entry["g2d/frozen_visual"] for entry in logs] == [first, 1, 1, 1, 0, 0, 0, 0]
    assert all(entry[f"g2d/divergence_{name}"] > 0 for entry in logs for name in NAMES)
    assert set(loaded(trainer)) == set(NAMES)


@pytest.mark.parametrize(("taken", "frozen"), [(0, ["audio", "text"]), (30, ["audio"]), (60, [])])
def test_three_modalities_are_ordered_by_their_teachers(taken, frozen):
    """By the students' own scores the last one would be the best. Two stages of 25 steps each."""
    names = (*NAMES, "text")
    method, step = G2D(freeze="gradient"), Step(names, step=taken, max_steps=100, scores=torch.tensor([1.0, 2.0, 3.0]))
    method.bind(names)
    step.add("g2d/scores", torch.tensor([[3.0, 1.0, 2.0], [4.0, 4.0, 4.0]]))
    parameters = {name: nn.Parameter(torch.zeros(2)) for name in names}
    for parameter in parameters.values():
        parameter.grad = torch.ones(2)
    method.modulate_gradients(Gradients({name: [parameter] for name, parameter in parameters.items()}), step)
    assert [name for name, parameter in parameters.items() if not parameter.grad.any()] == frozen


def test_it_freezes_what_others_have_scaled_and_penalised():
    assert [method.name for method in ModulationStack([G2D(), InfoReg(), OGM()], NAMES)] == ["ogm", "inforeg", "g2d"]


def test_what_is_minimised(training_args, tmp_path):
    """The loss of the first step is the plain one and the three weighted terms."""
    folders = save_teachers(tmp_path)

    def first(modulations):
        args = training_args(modulations=modulations, max_steps=1, logging_steps=1)
        trainer = taught_trainer(tiny_image_model(), args, folders)
        trainer.train()
        return trainer.state.log_history[0]

    plain, logs = first({}), first({"g2d": {"logit_weight": 0.5, "feature_weight": 3.0, "temperature": 2.0}})
    terms = {key: sum(float(logs[f"g2d/{key}_{name}"]) for name in NAMES) for key in ("divergence", "distance")}
    expected = float(plain["loss"]) + 0.5 * terms["divergence"] + 3 * terms["distance"]
    assert float(logs["loss"]) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("option", ["logit_weight", "feature_weight", "temperature"])
def test_wrong_options(option):
    with pytest.raises(ValueError, match=f"{option} must be a number in"):
        G2D(**{option: -1.0})


def test_released():
    config = G2D(preset="released").config
    assert (config.freeze, config.parameters, config.share, config.temperature) == ("gradient", "conv", 0.5, 1.0)
