from __future__ import annotations

import itertools
import math

import pytest
import torch
from tiny import hand_computed_case, tiny_model
from torch import nn

from hf_bml.modulation import AGM, Gradients, MicroBatch, ModulationStack, Step
from hf_bml.modulation.agm import LARGEST_LOSS, agm_coefficients, leads, responses
from hf_bml.modulation.discrepancy import loss_totals

BOTH = torch.tensor([True, True])
TWO = ("audio", "visual")


def near(actual, *expected):
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=actual.dtype), atol=1e-6, rtol=0)


def one_step(agm, losses, counts=(1.0, 1.0), gradient=1.0):
    """The encoders' gradients after a step with these summed losses."""
    step = Step(TWO)
    step.add("agm", torch.tensor([losses, counts], dtype=torch.float64))
    parameters = {name: [nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))] for name in TWO}
    for own in parameters.values():
        own[0].grad = torch.tensor([gradient])
    agm.modulate_gradients(Gradients(parameters), step)
    assert all(own[1].grad is None for own in parameters.values())
    return torch.cat([own[0].grad for own in parameters.values()])


def bound(**options):
    agm = AGM(**options)
    agm.bind(TWO)
    return agm


def test_two_steps_by_hand():
    agm = bound()
    logits, labels = hand_computed_case()
    totals = loss_totals(logits, MicroBatch(logits, labels), LARGEST_LOSS)
    near(totals[0] / totals[1], 0.164252, 0.601986)
    near(one_step(agm, (totals[0] / 2).tolist()), 0.577415, 1.425472)
    near(one_step(agm, (0.3, 0.5)), 1.387898, 0.840941)
    near(agm.state_dict()["history"][0], 0.232126, 0.550993)
    assert agm.logs()["agm/coefficient_audio"].item() == pytest.approx((0.577415 + 1.387898) / 2, abs=1e-6)


def test_three_modalities():
    known = torch.ones(3, dtype=torch.bool)
    lead, usual = leads(torch.tensor([0.2, 0.5, 1.1]), known), leads(torch.tensor([0.4, 0.5, 0.9]), known)
    near(lead, 1.822119, 1.161834, 0.472367)
    near(usual, 1.349859, 1.161834, 0.637628)
    near(agm_coefficients(lead, usual, 1.0), 0.623591, 1.0, 1.179702)


def test_responses_of_a_product_and_their_sum():
    f = {("1", "2"): (1.1, 2.9), ("1",): (2.1, 0.9), ("2",): (0.1, 0.9)}
    found = responses(("1", "2"), lambda kept: torch.tensor(f[kept]))
    near(found["1"], 1.55, 1.45)
    near(found["2"], -0.45, 1.45)
    names = ("a", "b", "c", "d")
    values = {
        kept: torch.randn(3, dtype=torch.float64) for n in range(1, 5) for kept in itertools.combinations(names, n)
    }
    torch.testing.assert_close(sum(responses(names, values.__getitem__).values()), values[names])


@pytest.mark.parametrize("modalities", [TWO, ("audio", "visual", "text")])
def test_of_a_linear_head_they_are_the_unimodal_logits(modalities):
    model = tiny_model(modalities)
    nn.init.normal_(model.head.classifier[-1].bias)
    inputs = {"audio": torch.randn(4, 5), "visual": torch.randn(4, 7), "text": torch.randn(4, 3)}
    mask = torch.ones(4, len(modalities), dtype=torch.bool)
    mask[1, 0] = mask[2, 1] = False
    batch, stack = MicroBatch({}, torch.tensor([0, 1, 2, 0])), ModulationStack([AGM()], modalities)
    stack.begin_step(Step(modalities))
    stack.begin_micro_batch(batch)
    output = model(**{m: inputs[m] for m in modalities}, labels=batch.labels, modality_mask=mask, modulation=stack)
    found, expected = stack.step.total("agm"), loss_totals(output.unimodal_logits, batch)
    torch.testing.assert_close(found, expected)
    assert found[1].tolist() == [3, 3, 4][: len(modalities)]


def test_equal_histories_and_losses_change_nothing_and_two_modalities_move_apart():
    same = leads(torch.tensor([0.4, 0.4]), BOTH)
    assert agm_coefficients(same, same, 2.0).tolist() == [1, 1]
    k = agm_coefficients(leads(torch.tensor([0.2, 0.9]), BOTH), leads(torch.tensor([0.5, 0.6]), BOTH), 1.0)
    assert k[0] < 1 < k[1]
    k = agm_coefficients(torch.tensor([0.0]), torch.tensor([1e9]), 0.5, cap=10.0)
    assert k.item() == pytest.approx(math.exp(5), rel=1e-6)


def test_a_modality_that_no_sample_has_keeps_its_gradient_and_history():
    agm = bound()
    one_step(agm, (0.2, 0.8))
    before = agm.state_dict()["history"].clone()
    near(one_step(agm, (0.5, 0.0), (1.0, 0.0), gradient=3.0)[1:], 3.0)
    history = agm.state_dict()["history"]
    assert torch.equal(history[:, 1], before[:, 1]) and history[:, 0].tolist() == pytest.approx([0.35, 2])
    assert leads(torch.tensor([0.3]), torch.tensor([True])).tolist() == [1]


def test_the_largest_loss():
    logits = {"audio": torch.tensor([[100.0, 0.0]])}
    totals = loss_totals(logits, MicroBatch(logits, torch.tensor([1])), LARGEST_LOSS)
    near(totals[0], 18.420681)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": -1}, "alpha must be a number"),
        ({"cap": 0}, "cap must be a number"),
        ({"preset": "released"}, r"preset must be one of \['paper'\]"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        AGM(**options)
