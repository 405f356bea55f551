from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from tiny import tiny_model
from torch.testing import assert_close

from hf_bml.modulation import MicroBatch, MMPareto, ModulationStack, MultiLoss, Step
from hf_bml.modulation.mmpareto import pareto_gradients
from hf_bml.testing import PROPERTIES, TWO_PROCESSES, check
from hf_bml.testing.training import NEVER, Setting, Subject, build_trainer, full_weights, train, use_gradient_scaler

close = partial(assert_close, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("joint", "unimodal", "weight", "expected"),
    [([-2.0, 1.0], [1.0, 0.0], 0.3, [0.670820, 2.012461]), ([1.0, 1.0], [1.0, 0.0], 0.5, [3.0, 1.5])],
)
def test_by_hand(joint, unimodal, weight, expected):
    """T-N1."""
    (found,), c = pareto_gradients([torch.tensor(joint)], [torch.tensor(unimodal)])
    close(1.5 * found, torch.tensor(expected))
    close(c, torch.tensor(weight))


def pair(seed):
    generator = torch.Generator().manual_seed(seed)
    joint, unimodal = ([torch.randn(size, generator=generator).double() for size in (3, (2, 2))] for _ in range(2))
    return joint, unimodal


def flat(tensors):
    return torch.cat([tensor.flatten() for tensor in tensors])


def test_without_a_conflict_it_is_the_sum_and_after_one_it_serves_both_at_the_length_of_the_sum():
    conflicts = 0
    for seed in range(20):
        joint, unimodal = pair(seed)
        found, c = pareto_gradients(joint, unimodal)
        g, v, h = flat(joint), flat(unimodal), flat(found)
        if g @ v > 0:
            assert torch.equal(h, g + v) and c == 0.5
            continue
        conflicts += 1
        assert h @ g >= 0 and h @ v >= 0
        assert_close(h.norm(), (g + v).norm().maximum(2 * (c * g + (1 - c) * v).norm()))
        others = [(w * g + (1 - w) * v).norm() for w in torch.linspace(0, 1, 21)]
        assert (c * g + (1 - c) * v).norm() <= min(others)
    assert 5 < conflicts < 15


def test_the_length_is_restored_by_tensor_if_asked():
    joint = [torch.tensor([-2.0, 1.0]), torch.tensor([0.5])]
    unimodal = [torch.tensor([1.0, 0.0]), torch.tensor([0.5])]
    found, c = pareto_gradients(joint, unimodal, "tensor")
    whole, _ = pareto_gradients(joint, unimodal)
    g, v = flat(joint), flat(unimodal)
    assert_close(c, v @ (v - g) / (g - v).square().sum())
    assert_close(found[0].norm(), (joint[0] + unimodal[0]).norm())
    assert_close(found[1], joint[1] + unimodal[1])
    assert_close(flat(whole).norm(), (g + v).norm())


def test_the_margin_bounds_the_weight_of_a_conflict():
    _, c = pareto_gradients([torch.tensor([-1000.0, 1.0])], [torch.tensor([0.1, 0.0])], margin=0.25)
    assert c == 0.25


@pytest.mark.parametrize("absent", ["joint", "unimodal", "both"])
def test_a_gradient_of_zero_leaves_the_other(absent):
    joint, unimodal = pair(0)
    if absent != "unimodal":
        joint = [torch.zeros_like(each) for each in joint]
    if absent != "joint":
        unimodal = [torch.zeros_like(each) for each in unimodal]
    found, _ = pareto_gradients(joint, unimodal)
    assert torch.equal(flat(found), flat(joint) + flat(unimodal))


@pytest.mark.parametrize("bad", [math.inf, math.nan])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_what_is_not_finite_stays_so(bad, sign):
    found, _ = pareto_gradients([torch.tensor([bad, 1.0])], [torch.tensor([sign, 1.0])])
    assert not found[0].isfinite().all()


def test_opposite_gradients_leave_nothing():
    found, c = pareto_gradients([torch.tensor([-1.0])], [torch.tensor([1.0])])
    assert found[0].tolist() == [0.0] and c == 0.5


def test_encoders_that_never_conflict_train_as_with_multi_loss():
    """With one modality and the joint head's share, both gradients are the same."""
    setting = Setting(modalities=("audio",), steps=3)
    expected = train(Subject(MultiLoss), setting).weights
    found = train(Subject(MMPareto, {"heads": "split", "gamma": 1.0}), setting).weights
    for name, value in expected.items():
        assert_close(found[name], value, atol=1e-12, rtol=0)


def test_without_a_conflict_gamma_1_is_an_auxiliary_loss_of_weight_1(tmp_path):
    setting = Setting(steps=1)
    found = train(Subject(MMPareto, {"gamma": 1.0}), setting)
    assert all(found.logs[f"mmpareto/joint_weight_{name}"] == 0.5 for name in ("audio", "visual"))
    trainer = build_trainer(Subject(MMPareto, NEVER), setting, str(tmp_path))
    trainer.model.config.auxiliary_loss_weight = 1.0
    trainer.train()
    for name, value in full_weights(trainer.model).items():
        assert_close(found.weights[name], value, atol=1e-12, rtol=0)


def test_under_a_gradient_scaler_it_is_the_same(tmp_path):
    scaled = build_trainer(Subject(MMPareto), Setting(steps=3, arguments=(("fp16", True),)), str(tmp_path))
    use_gradient_scaler(scaled, 2.0**12, autocast=False).train()
    expected = train(Subject(MMPareto), Setting(steps=3))
    for name, value in full_weights(scaled.model).items():
        assert_close(value, expected.weights[name], rtol=0, atol=1e-10)


def test_gamma_scales_the_encoders_alone():
    setting = Setting(modalities=("audio",), steps=1, arguments=(("max_grad_norm", 0.0),))
    one, two = (train(Subject(MMPareto, {"gamma": gamma}), setting) for gamma in (1.0, 2.0))
    for name, value in one.weights.items():
        factor = 2.0 if name.startswith("encoders.") else 1.0
        assert_close(two.weights[name] - two.start[name], factor * (value - one.start[name]))


@pytest.mark.parametrize("property", [each for each in PROPERTIES if each not in TWO_PROCESSES])
def test_split_heads_and_the_released_preset_have_the_properties(property):
    refused = check(MMPareto, property, heads="split", preset="released")
    assert (refused is not None) == (property == "regression"), refused  # where no share is a prediction


def test_the_released_preset():
    config = MMPareto(preset="released").config
    assert (config.magnitude, config.margin, config.gamma, config.heads) == ("tensor", 0.001, 1.5, "own")
    assert MMPareto(preset="released", margin=0.0).config.margin == 0


def test_it_excludes_multi_loss():
    names = ("audio", "visual")
    stack = ModulationStack([MultiLoss(), MMPareto(heads="split")], names)
    stack.begin_step(Step(names))
    stack.begin_micro_batch(MicroBatch({}, torch.tensor([0, 1])))
    with pytest.raises(ValueError, match="Two methods that train the same prediction"):
        tiny_model()(audio=torch.ones(2, 5), visual=torch.ones(2, 7), modulation=stack)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": 0}, "gamma must be a number"),
        ({"magnitude": "layer"}, "magnitude must be one of"),
        ({"margin": 0.5}, "margin must be a number"),
        ({"weight": 0}, "weight must be a number"),
        ({"heads": "both"}, "heads must be one of"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        MMPareto(**options)
