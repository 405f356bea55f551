"""The property suite finds what it is there for: methods with one fault each."""

from __future__ import annotations

import pytest
import torch

from hf_bml.modulation import Modulation
from hf_bml.testing import check, properties
from hf_bml.testing.processes import SETTINGS, outcome
from hf_bml.testing.training import Subject


class Faultless(Modulation):
    """Scales the gradients of the first encoder by what it has counted."""

    name = "faultless"
    phase = "scale_gradients"

    def reset(self):
        super().reset()
        self.steps = torch.zeros(())

    def modulate_gradients(self, gradients, step):
        self.steps = self.steps + 1
        self.scale(gradients, 1 / self.steps)

    def scale(self, gradients, by):
        for parameter in gradients.parameters.get("audio", ()):
            if parameter.grad is not None:
                parameter.grad.mul_(by)

    def state_dict(self):
        return {**super().state_dict(), "steps": self.steps}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.steps = state["steps"]


class Forgets(Faultless):
    name = "forgets"

    def load_state_dict(self, state):
        self.means.load_state_dict(state["means"])


class CountsSkippedSteps(Faultless):
    name = "counts_skipped_steps"

    def load_state_dict(self, state):
        super().load_state_dict({**state, "steps": state["steps"] + 1})


class Reads(Faultless):
    name = "reads"

    def modulate_gradients(self, gradients, step):
        self.steps = self.steps + 1
        self.scale(gradients, 1 / self.steps.item())


class CountsMicroBatches(Faultless):
    name = "counts_micro_batches"

    def modulate_losses(self, losses, batch, step):
        self.steps = self.steps + 1
        return losses


class SeesBatchMean(Modulation):
    name = "sees_batch_mean"
    phase = "features"

    def modulate_features(self, features, batch, keep_mask, step):
        return {name: feature - feature.mean(0) for name, feature in features.items()}


class Freezes(Faultless):
    name = "freezes"

    def modulate_gradients(self, gradients, step):
        for parameter in gradients.parameters["audio"]:
            parameter.grad = None


class DividesByPresent(Modulation):
    name = "divides_by_present"
    phase = "weigh_losses"

    def modulate_losses(self, losses, batch, step):
        present = batch.present("visual")
        return losses if present is None else {"joint": losses["joint"] / present.float().mean()}


class RefusesNamelessly(Modulation):
    name = "refuses_namelessly"
    phase = "features"

    def attach(self, run):
        if len(run.model.encoders) > 2:
            raise ValueError("No.")


class KeepsHalf(Faultless):
    name = "keeps_half"

    def reset(self):
        super().reset()
        self.steps = self.steps.bfloat16()


class LosesHalf(Modulation):
    name = "loses_half"
    phase = "weigh_losses"

    def modulate_losses(self, losses, batch, step):
        return {name: loss.bfloat16() for name, loss in losses.items()}


class AddsUnderAutocast(Modulation):
    name = "adds_under_autocast"
    phase = "add_losses"

    def forward_losses(self, features, batch, step):
        return {self.name: torch.tensor(float(torch.is_autocast_enabled("cpu")))}


class NeverOff(Faultless):
    name = "never_off"

    def is_active(self, step):
        return True


FAULTS = {
    "accumulation": [CountsMicroBatches, SeesBatchMean],
    "skipped fp16 step": [CountsSkippedSteps],
    "resuming": [Forgets],
    "no host sync": [Reads],
    "1 to 4 modalities": [Freezes, RefusesNamelessly],
    "missing modalities": [DividesByPresent],
    "inactive window": [NeverOff],
}
CASES = [(property, method) for property, methods in FAULTS.items() for method in methods]


@pytest.mark.parametrize(("property", "method"), CASES, ids=[f"{p}-{m.name}" for p, m in CASES])
def test_faults_are_found(property, method):
    with pytest.raises(AssertionError, match=f"{method.name}, {property}: "):
        check(method, property)


@pytest.mark.parametrize("property", FAULTS)
def test_nothing_else_is_found(property):
    check(Faultless, property)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (Faultless, None),
        (KeepsHalf, r"keeps \['/modulations/keeps_half/steps'\] in half precision"),
        (LosesHalf, r"\['loss'\] of a step are not in float32"),
        (AddsUnderAutocast, r"loss of the first step: \d\d\.\d% between bf16 and full precision"),
    ],
)
def test_faults_in_bf16(monkeypatch, method, message):
    """As of two processes that had the same batch."""
    subject = Subject(method)
    found = {"bf16": outcome(subject, SETTINGS["bf16"])}
    monkeypatch.setattr(properties, "two_processes", lambda _: [found, found])
    if message is None:
        check(method, "bf16")
    else:
        with pytest.raises(AssertionError, match=message):
            check(method, "bf16")


def test_two_processes_import_the_method():
    class Local(Faultless):
        pass

    with pytest.raises(TypeError, match="at the top of a module"):
        check(Local, "two processes")
