from __future__ import annotations

import math

import pytest
import torch
from proof_methods import RegulatesAtOnce
from tiny import hand_computed_case
from torch import nn

from hf_bml.modulation import Gradients, InfoReg, MicroBatch, Step
from hf_bml.modulation.inforeg import growth, regulation, score_leads
from hf_bml.testing.samples import MODALITIES
from hf_bml.testing.training import Setting, Subject, train

TWO = ("audio", "visual")


def near(actual, *expected):
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=actual.dtype), atol=1e-6, rtol=0)


class Run:
    """Steps of an InfoReg with one parameter per modality and T-A1's scores."""

    def __init__(self, scale=None, mask=None, **options):
        self.method, self.scale, self.mask = InfoReg(**options), scale, mask
        self.method.bind(TWO)
        self.parameters = {name: [nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))] for name in TWO}

    def step(self, epoch, theta, gradient):
        """What is added to the gradients, without the scale, `(modalities,)`."""
        times = 1.0 if self.scale is None else self.scale
        for own in self.parameters.values():
            own[0].data.fill_(theta)
            own[0].grad = torch.tensor([gradient]) * times
        step, (logits, labels) = Step(TWO, epoch=epoch, gradient_scale=self.scale), hand_computed_case()
        batch, losses = MicroBatch(logits, labels, self.mask), {"joint": torch.tensor(1.0)}
        assert self.method.modulate_losses(losses, batch, step) is losses
        self.method.modulate_gradients(Gradients(self.parameters), step)
        assert all(own[1].grad is None for own in self.parameters.values())
        return torch.cat([own[0].grad for own in self.parameters.values()]) / times - gradient

    def two_epochs(self, first=1.0, second=1.2):
        """Of two steps each, with these Fisher traces."""
        for epoch, trace in enumerate((first, second)):
            for part in (0.0, 0.5):
                assert not self.step(epoch + part, theta=3.0 + part, gradient=math.sqrt(trace)).any()
        return self


@pytest.mark.parametrize("scale", [None, torch.tensor(1024.0)])
def test_the_hand_computed_case(scale):
    """Delta (0.437734, 0), so alpha^1 = 1.509479; the trace grew by 0.166667; theta 1.5 began the epoch at 1.2."""
    run = Run(scale).two_epochs()
    near(torch.stack(run.method.state_dict()["traces"]), [1.0, 1.0])
    near(run.step(2.0, theta=1.2, gradient=5.0), 0.0, 0.0)  # an epoch's first step
    torch.testing.assert_close(
        run.step(2.5, theta=1.5, gradient=5.0), torch.tensor([0.452844, 0.0]), atol=2e-6, rtol=0
    )
    near(torch.stack(run.method.state_dict()["traces"]), [1.0, 1.0], [1.2, 1.2])
    run.method.logs()
    near(run.step(3.0, theta=1.2, gradient=5.0), 0.0, 0.0)
    assert run.method.logs()["inforeg/trace_audio"].item() == pytest.approx(25)


def test_leads():
    near(score_leads(torch.tensor([-0.164252, -0.601986])), 0.437734, 0)
    near(score_leads(torch.tensor([-0.2, -0.5, -1.1])), 0.6, 0.6, 0)
    near(score_leads(torch.tensor([-0.2, -0.5, 0.0]), torch.tensor([True, True, False])), 0.3, 0, 0)
    near(score_leads(torch.tensor([-0.7])), 0)
    near(score_leads(torch.tensor([-0.7, -0.7 - 6e-8, -1.1])), 0.4, 0.4, 0)


def test_scores_that_differ_by_rounding_give_no_lead():
    assert not score_leads(torch.tensor([-0.7, -0.7 - 6e-8])).any()
    assert not score_leads(torch.tensor([-1e-7, -2e-7])).any()  # of probabilities that are 1 but for rounding


def test_the_growth_opens_the_window_and_the_lead_sets_the_factor():
    near(growth(torch.tensor([1.0, 2.0, 1.0]), torch.tensor([1.2, 1.0, 0.0])), 0.166667, -1, 0)
    leads, window = torch.tensor([0.437734, 0.437734, 0.0]), torch.tensor([True, False, True])
    near(regulation(leads, window, 1.0), 1.509479, 0, 0)
    near(regulation(leads, window, 0.0, strength=0.5), 0.5, 0, 0)


@pytest.mark.parametrize(("options", "regulates"), [({}, True), ({"threshold": 0.2}, False), ({"strength": 0}, False)])
def test_the_window(options, regulates):
    run = Run(**options).two_epochs()
    run.step(2.0, theta=1.2, gradient=5.0)
    assert run.step(2.5, theta=1.5, gradient=5.0).any() == regulates


def test_a_shrinking_trace_and_an_absent_modality_regulate_nothing():
    for run in (Run().two_epochs(1.2, 1.0), Run(mask=torch.tensor([[True, False]] * 2)).two_epochs()):
        run.step(2.0, theta=1.2, gradient=5.0)
        near(run.step(2.5, theta=1.5, gradient=5.0), 0.0, 0.0)


def test_a_resumed_run_knows_the_beginning_of_its_epoch():
    run, other = Run().two_epochs(), Run()
    run.step(2.0, theta=1.2, gradient=5.0)
    other.method.load_state_dict(run.method.state_dict())
    assert torch.equal(*(each.step(2.5, theta=1.5, gradient=5.0) for each in (other, run)))


def test_what_is_frozen_has_no_beginning():
    run = Run()
    run.parameters["visual"][1].requires_grad_(False)
    run.two_epochs()
    beginning = run.method.state_dict()["beginning"]
    assert [each is None for own in beginning.values() for each in own] == [False, False, False, True]
    kept = {id(value) for own in beginning.values() for value in own if value is not None}
    assert {id(value) for value in run.method.snapshots()} == kept


def test_an_encoder_without_parameters_has_no_trace():
    method, (logits, labels), step = InfoReg(), hand_computed_case(), Step(TWO)
    method.bind(TWO)
    audio = nn.Parameter(torch.ones(1))
    audio.grad = torch.ones(1)
    method.modulate_losses({}, MicroBatch(logits, labels), step)
    method.modulate_gradients(Gradients({"audio": [audio], "visual": []}), step)
    assert [value.item() for key, value in method.logs().items() if "trace" in key] == [1, 0]


def test_a_training_must_last_three_epochs():
    with pytest.warns(UserWarning, match="inforeg waits for 2 epochs"):
        InfoReg().warn_if_idle(dict.fromkeys(TWO), epochs=2, steps=8)
    InfoReg().warn_if_idle(dict.fromkeys(TWO), epochs=3, steps=12)
    assert InfoReg(start=1.5).first_epoch == 3  # an epoch that it has seen in part counts
    assert InfoReg(start=9, unit="steps").first_epoch == 2


def test_the_method_of_the_property_suite_regulates_from_the_second_step():
    setting = Setting(modalities=MODALITIES[:3], missing=0.0, steps=2, dtype=torch.float32)
    logs = train(Subject(RegulatesAtOnce), setting).logs
    assert sum(logs[f"inforeg/regulation_{name}"] > 0 for name in MODALITIES[:3]) >= 1


def test_in_a_training_of_three_epochs():
    """Accumulated micro-batches make the big batch, and the regulation changes the last steps."""
    regulated, plain = Subject(InfoReg), Subject(InfoReg, {"strength": 0})
    found, cut, without = (
        train(subject, Setting(steps=11, micro_batches=count)).weights
        for subject, count in ((regulated, 1), (regulated, 4), (plain, 1))
    )
    assert all((value - cut[name]).abs().max() < 1e-10 for name, value in found.items())
    assert any(not torch.equal(value, without[name]) for name, value in found.items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": -1}, "beta must be"),
        ({"threshold": 1}, "threshold must be"),
        ({"strength": -1}, "strength must be"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        InfoReg(**options)
