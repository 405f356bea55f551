"""Separate gradients are those of the losses apart, whatever scales them."""

from __future__ import annotations

import pytest
import torch

from hf_bml.modulation import Gradients, Modulation, Needs
from hf_bml.modulation.step import JOINT, UNIMODAL
from hf_bml.testing.training import Setting, Subject, build_trainer, full_weights, train, use_gradient_scaler

WEIGHTS = {JOINT: 0.5, UNIMODAL: 2.0}


class Added(Modulation):
    """Adds the loss of every modality's own prediction."""

    name = "added"
    phase = "add_losses"

    def needs(self, modalities):
        return Needs(unimodal_graph=True)

    def forward_losses(self, features, batch, step):
        return {name: batch.loss(logits, batch.present(name)) for name, logits in batch.unimodal_graph.items()}


class Weighed(Added):
    """Weighs the losses."""

    name = "weighed"

    def modulate_losses(self, losses, batch, step):
        return {name: loss * WEIGHTS.get(name, WEIGHTS[UNIMODAL]) for name, loss in losses.items()}


class Mixed(Added):
    """Weighs the gradients instead."""

    name = "mixed"
    phase = "combine_gradients"

    def needs(self, modalities):
        return Needs(gradients=True, unimodal_graph=True, separate_gradients=(UNIMODAL,), head_gradients=True)

    @torch.no_grad()
    def modulate_gradients(self, gradients, step):
        parts = {name: gradients.of(name) for name in WEIGHTS}
        for group, parameters in gradients.parameters.items():
            for index, parameter in enumerate(parameters):
                parameter.grad = sum(WEIGHTS[name] * parts[name][group][index] for name in WEIGHTS)


@pytest.mark.parametrize("options", [{}, {"own_loss": True}], ids=["mean", "own loss"])
@pytest.mark.parametrize("micro_batches", [1, 4])
def test_weighed_gradients_are_those_of_weighed_losses(micro_batches, options):
    setting = Setting(micro_batches=micro_batches, **options)
    expected, found = train(Subject(Weighed), Setting(**options)), train(Subject(Mixed), setting)
    plain = train(Subject(Added), Setting(**options))
    for name, value in expected.weights.items():
        torch.testing.assert_close(found.weights[name], value, rtol=0, atol=1e-10)
    assert any((plain.weights[name] - value).abs().max() > 1e-3 for name, value in expected.weights.items())


def test_separate_gradients_carry_the_gradient_scale(tmp_path):
    setting = Setting(micro_batches=2, arguments=(("fp16", True),))
    scaled = use_gradient_scaler(build_trainer(Subject(Mixed), setting, str(tmp_path)), 2.0**12, autocast=False)
    scaled.train()
    expected = train(Subject(Mixed), Setting(micro_batches=2))
    for name, value in full_weights(scaled.model).items():
        torch.testing.assert_close(value, expected.weights[name], rtol=0, atol=1e-10)


def test_a_loss_that_reaches_nothing_here_is_still_reduced():
    """Another process may have gradients for what this one has none for: every process reduces the same tensors."""
    reached, unreached, frozen = (torch.nn.Parameter(torch.ones(2)) for _ in range(3))
    frozen.requires_grad_(False)
    reached.grad = torch.full((2,), 3.0)
    reduced = []

    def mean(value):
        reduced.append(value)
        return value / 2

    gradients = Gradients({"audio": [reached, unreached, frozen]}, {"audio": {reached: torch.ones(2)}}, mean)
    own, _, _ = gradients.of("audio")["audio"]
    joint, _, _ = gradients.of(JOINT)["audio"]
    assert len(reduced) == 2
    assert own.tolist() == [0.5, 0.5] and joint.tolist() == [2.5, 2.5]
    with pytest.raises(ValueError, match="separate_gradients"):
        gradients.of("visual")
