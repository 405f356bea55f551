from __future__ import annotations

import math

import pytest
import torch
from tiny import tiny_model
from torch import nn

from hf_bml.modulation import LFM, Gradients, MicroBatch, ModulationStack, Step
from hf_bml.modulation.divergence import jensen_shannon
from hf_bml.modulation.lfm import fitted_weight
from hf_bml.testing import check
from hf_bml.training.losses import named_losses

P, Q = torch.tensor([[0.9, 0.1]]).log(), torch.tensor([[0.6, 0.4]]).log()
INPUTS = {"audio": torch.arange(20.0).view(4, 5).sin(), "visual": torch.arange(28.0).view(4, 7).cos()}
INPUTS["text"] = torch.arange(12.0).view(4, 3).sin()


def losses_of(model, method, step, modality_mask=None):
    """What a training step minimises, by name, and the model's output."""
    names, labels = tuple(model.encoders), torch.tensor([0, 2, 1, 1])
    stack = ModulationStack([method], names)
    stack.begin_step(step)
    stack.begin_micro_batch(MicroBatch({}, labels))
    inputs = {name: INPUTS[name] for name in names}
    output = model.train()(**inputs, labels=labels, modality_mask=modality_mask, modulation=stack)
    return stack.modulate_losses(named_losses(output.loss, output), output), output


def middle(names=("audio", "visual")):
    return Step(names, step=10, max_steps=20)


@pytest.mark.parametrize(("swapped", "expected"), [(False, 0.063288), (True, 0.071094)])
def test_the_divergence_by_hand(swapped, expected):
    assert jensen_shannon(P, Q, swapped).item() == pytest.approx(expected, abs=1e-6)
    assert jensen_shannon(Q, P, swapped).item() == pytest.approx(expected, abs=1e-6)
    assert jensen_shannon(P, P + 3, swapped).item() == pytest.approx(0, abs=1e-7)


def test_the_divergence_is_bounded_and_finite_for_certain_predictions():
    one, other = (torch.tensor([[x, -x]], requires_grad=True) for x in (500.0, -500.0))
    found = jensen_shannon(one, other)
    assert found.item() == pytest.approx(math.log(2))
    found.sum().backward()
    assert one.grad.isfinite().all() and other.grad.isfinite().all()
    both = jensen_shannon(torch.stack([P, P], 1).view(1, 2, 2), torch.stack([Q, P], 1).view(1, 2, 2))
    assert both.tolist() == [pytest.approx([0.063288, 0], abs=1e-6)]  # two segments


def test_the_fitted_weight():
    expected = {0: 0.204624, 20: 0.300887, 50: 0.436681, 100: 0.539155, 150: 0.821314, 199: 0.915989}
    assert {epoch: fitted_weight(epoch) for epoch in expected} == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "alpha"),
    [({}, 0.539155), ({"schedule": "linear"}, 0.5), ({"schedule": "learned", "initial": 0.3}, 0.3)],
)
def test_the_loss(options, alpha):
    """In the middle of the run; the joint prediction is the model's own."""
    model = tiny_model()
    method = LFM(**options)
    found, output = losses_of(model, method, middle())
    assert list(found) == ["joint", "lfm"]
    divergence = jensen_shannon(*output.unimodal_logits.values()).mean()
    torch.testing.assert_close(found["joint"], 2 * alpha * output.losses["joint"])
    torch.testing.assert_close(found["lfm"], 2 * (1 - alpha) * divergence)
    found["lfm"].backward()
    assert all(p.grad.any() for p in model.encoders.parameters())
    logs = {key: value.item() for key, value in method.logs().items()}
    assert logs == pytest.approx({"lfm/weight": alpha, "lfm/divergence": divergence.item()}, abs=1e-6)


def test_the_loss_of_the_swapped_divergence():
    found, output = losses_of(tiny_model(), LFM(preset="released", schedule="linear"), middle())
    swapped, plain = (jensen_shannon(*output.unimodal_logits.values(), swap).mean() for swap in (True, False))
    torch.testing.assert_close(found["lfm"], swapped)
    assert not torch.isclose(swapped, plain)


def test_both_ends_of_the_linear_schedule():
    first, last = (
        losses_of(tiny_model(), LFM(schedule="linear"), Step(("audio", "visual"), step=n, max_steps=20))[0]["joint"]
        for n in (0, 20)
    )
    assert (first / last).item() == pytest.approx(0.05 / 0.95)


def test_pairs_are_averaged_over_the_samples_that_have_both():
    names = ("audio", "visual", "text")
    mask = torch.tensor([[True, True, True], [True, False, True], [False, True, True], [True, True, True]])
    found, output = losses_of(tiny_model(names), LFM(schedule="linear"), middle(names), mask)
    audio, visual, text = output.unimodal_logits.values()
    pairs = [
        jensen_shannon(audio, visual)[[0, 3]],
        jensen_shannon(audio, text)[[0, 1, 3]],
        jensen_shannon(visual, text)[[0, 2, 3]],
    ]
    torch.testing.assert_close(found["lfm"], torch.stack([pair.mean() for pair in pairs]).mean())


def test_equal_predictions_leave_the_label_loss_and_one_modality_is_plain_training():
    model = tiny_model()
    nn.init.zeros_(model.head.classifier[-1].weight)
    assert losses_of(model, LFM(), middle())[0]["lfm"].item() == pytest.approx(0, abs=1e-7)
    found, output = losses_of(tiny_model(("audio",)), LFM(), middle(("audio",)))
    assert list(found) == ["joint"] and found["joint"] is output.loss


@pytest.mark.parametrize("scale", [None, torch.tensor(8.0)])
def test_the_learned_weight_looks_one_step_ahead(scale):
    """g_cls = (1, 0) and g_align = (0, 1) in an epoch's first step, g_val = (1, 2) in its second: from 0.5 to 0.45."""
    parameter, times = nn.Parameter(torch.zeros(2)), 1.0 if scale is None else scale
    method = LFM(schedule="learned", initial=0.5, alpha_rate=0.5)
    method.bind(("audio", "visual"))
    optimizer = torch.optim.SGD([parameter], lr=0.1)

    def close(epoch, joint, alignment):
        """The weights are 2 alpha = 1 and 2 (1 - alpha) = 1, and below 0.9 and 1.1."""
        method._weight(Step(("audio", "visual")), torch.zeros(()))
        parameter.grad = (joint + alignment) * times
        gradients = Gradients({"audio": [parameter]}, {"lfm": {parameter: alignment * times}})
        method.modulate_gradients(
            gradients, Step(("audio", "visual"), epoch=epoch, optimizer=optimizer, gradient_scale=scale)
        )
        return method.state_dict()["learned"].item()

    assert close(0.0, torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])) == 0.5
    other = LFM(schedule="learned")
    other.bind(("audio", "visual"))
    other.load_state_dict(method.state_dict())
    assert other.state_dict()["seen"]["labels"][0].tolist() == [1, 0]
    assert close(0.1, torch.tensor([1.0, 2.0]), torch.zeros(2)) == pytest.approx(0.45)
    assert close(0.2, torch.tensor([5.0, 5.0]), torch.zeros(2)) == pytest.approx(0.45)  # once an epoch
    close(1.0, torch.tensor([0.9, 0.0]), torch.zeros(2))
    assert close(1.1, torch.tensor([1e3, 0.0]), torch.zeros(2)) == pytest.approx(0.95)
    close(2.0, torch.tensor([0.9, 0.0]), torch.zeros(2))
    assert close(2.1, torch.tensor([-1e4, 0.0]), torch.zeros(2)) == pytest.approx(0.05)


@pytest.mark.parametrize("property", ["accumulation", "resuming", "skipped fp16 step", "1 to 4 modalities"])
def test_learned_in_training(property):
    assert check(LFM, property, schedule="learned") is None


def test_released():
    assert LFM(preset="released").config.divergence == "swapped"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "cosine"}, "schedule must be one of"),
        ({"initial": 1.0}, r"initial must be a number in \[0.05, 0.95\]"),
        ({"alpha_rate": 0}, "alpha_rate must be"),
        ({"divergence": "kl"}, "divergence must be one of"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        LFM(**options)
