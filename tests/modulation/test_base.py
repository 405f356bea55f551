from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from hf_bml import MODULATIONS, OGM, OPM, Modulation, OPMConfig
from hf_bml.models.forward_view import ForwardView
from hf_bml.modulation import (
    Dropout,
    MicroBatch,
    ModDrop,
    ModulationConfig,
    ModulationStack,
    OGMStar,
    Step,
    build_modulations,
    option,
)
from hf_bml.modulation.config import check_count, is_inside_window
from hf_bml.modulation.running_mean import RunningMean
from hf_bml.modulation.step import seeded_generator


@pytest.mark.parametrize(
    ("now", "start", "end", "inside"),
    [(0, 0, None, True), (5.99, 6, None, False), (6, 6, 61, True), (60.9, 6, 61, True), (61, 6, 61, False)],
)
def test_active_window(now, start, end, inside):
    assert is_inside_window(now, start, end) is inside


def test_window_in_steps_and_epochs():
    opm = OPM(start=3, unit="steps")
    assert not opm.is_active(Step(("a",), step=2, epoch=9.0))
    assert opm.is_active(Step(("a",), step=3, epoch=0.0))
    assert OPM(start=3).is_active(Step(("a",), step=0, epoch=3.0))


def test_a_window_that_never_opens_warns():
    with pytest.warns(UserWarning, match="will never act"):
        OPM(preset="released").warn_if_idle({}, epochs=3, steps=30)
    with pytest.warns(UserWarning, match="will never act"):
        OPM(start=10, unit="steps").warn_if_idle({}, epochs=1, steps=10)


def test_a_filter_that_matches_nothing_warns():
    with pytest.warns(UserWarning, match="touches no parameter of the 'text' encoder"):
        OGM(parameters="conv").warn_if_idle({"text": torch.nn.Linear(2, 2)}, epochs=3, steps=30)


@pytest.mark.parametrize("placement", ["gradients", "graph"])
def test_a_frozen_encoder_warns(placement):
    frozen, trained = torch.nn.Linear(2, 2).requires_grad_(False), torch.nn.Linear(2, 2)
    with pytest.warns(
        UserWarning, match="no gradient to change in the 'text' encoder.*Unfreeze it, or use OPM"
    ) as record:
        OGM(placement=placement).warn_if_idle({"text": frozen, "audio": trained}, epochs=3, steps=30)
    assert len(record) == 1


@pytest.mark.filterwarnings("error")
def test_no_warning_where_a_modulation_can_act():
    OPM(preset="released").warn_if_idle({}, epochs=7, steps=70)
    OPM(start=5, unit="steps").warn_if_idle({}, epochs=1, steps=10)
    encoders = {"text": torch.nn.Linear(2, 2), "audio": torch.nn.Linear(2, 2)}
    OGM().warn_if_idle(encoders, epochs=3, steps=30)
    for alone in (OGM(noise="entry_std"), Dropout(), ModDrop(allow_empty=True)):
        alone.warn_if_idle({"text": torch.nn.Linear(2, 2)}, epochs=3, steps=30)


@pytest.mark.parametrize("modulation", [OPM(), OGM(), OGMStar(), ModDrop()], ids=lambda modulation: modulation.name)
def test_a_method_that_compares_warns_of_a_single_modality(modulation):
    with pytest.warns(UserWarning, match=rf"{modulation.name} balances several .* only \['text'\]: it does nothing"):
        modulation.warn_if_idle({"text": torch.nn.Linear(2, 2)}, epochs=3, steps=30)


class Recorder(Modulation):
    name = "recorder"
    phase = "drop"

    def __init__(self, **options):
        super().__init__(**options)
        self.calls = []

    def begin_step(self, step):
        self.calls.append(("begin", step.step))

    def keep_modalities(self, batch, keep_mask, step):
        self.calls.append(("keep", keep_mask))
        return torch.tensor([[True, False]])

    def modulate_features(self, features, batch, keep_mask, step):
        self.calls.append(("features", batch.labels))
        return {name: feature + 1 for name, feature in features.items()}

    def modulate_losses(self, losses, batch, step):
        return {name: loss * 2 for name, loss in losses.items()}


def shown(modality_mask=None):
    """What a model's forward shows of one sample."""
    logits = {"a": torch.zeros(1, 2), "b": torch.zeros(1, 2)}
    return ForwardView(logits, modality_mask, features=logits, inputs=logits, predict=None)


def test_stack_calls_only_active_modulations_and_passes_masks_on():
    early, late = Recorder(end=1), Recorder(start=1)
    early.name, late.name = "early", "late"
    stack = ModulationStack([early, late], ("a", "b"))
    stack.begin_step(Step(("a", "b"), epoch=0.5))
    stack.begin_micro_batch(MicroBatch({}, labels="labels"))
    keep = stack.keep_modalities(shown())
    assert keep.tolist() == [[True, False]]
    assert stack.modulate_features({"a": 1}, keep) == {"a": 2}
    assert [call[0] for call in early.calls] == ["begin", "keep", "features"]
    assert early.calls[-1][1] == "labels"
    assert late.calls == []
    assert stack.modulate_losses({"joint": torch.tensor(1.5)}, {}) == {"joint": 3}


def test_second_modulation_sees_what_the_first_kept():
    first, second = Recorder(), Recorder()
    first.name, second.name = "first", "second"
    stack = ModulationStack([first, second], ("a", "b"))
    stack.begin_step(Step(("a", "b")))
    stack.begin_micro_batch(MicroBatch({}, labels=torch.tensor([0])))
    stack.keep_modalities(shown())
    assert second.calls[-1][1].tolist() == [[True, False]]


def test_names_are_unique():
    with pytest.raises(ValueError, match="used once"):
        ModulationStack([OPM(), OPM()], ("a", "b"))


def test_registry_builds_from_options():
    opm, ogm = build_modulations({"opm": {"q_base": 0.3}, "ogm": None})
    assert isinstance(opm, OPM) and opm.config.q_base == 0.3
    assert isinstance(ogm, OGM)
    assert build_modulations(None) == []


@pytest.mark.parametrize(
    ("specification", "message"),
    [({"ogmm": {}}, "Did you mean 'ogm'"), ({"opm": 0.5}, "must be a mapping"), ({"xyz": {}}, "Known")],
)
def test_registry_errors(specification, message):
    with pytest.raises(ValueError, match=message):
        build_modulations(specification)


def test_config_or_keywords_not_both():
    with pytest.raises(ValueError, match="not both"):
        OPM(OPMConfig(), q_base=0.1)


@pytest.mark.parametrize("name", MODULATIONS)
def test_every_option_has_a_help_text(name):
    from dataclasses import fields

    for each in fields(MODULATIONS[name].config_class):
        assert len(each.metadata.get("help", "")) > 10, f"{name}.{each.name}"


def test_running_mean_resumes():
    means, other = RunningMean(("a", "b")), RunningMean(("a", "b"))
    means.add({"x": torch.tensor([1.0, 2.0])})
    other.load_state_dict(means.state_dict())
    for m in (means, other):
        m.add({"x": torch.tensor([3.0, 4.0])})
    assert means.pop() == other.pop() == {"x_a": torch.tensor(2.0), "x_b": torch.tensor(3.0)}


def test_running_mean_of_a_scalar_has_no_suffix():
    means = RunningMean(("a", "b"))
    means.add({"x": torch.tensor(1.0)})
    means.add({"x": torch.tensor(4.0)})
    assert means.pop() == {"x": torch.tensor(2.5)}


def test_generator_depends_on_its_key_and_method():
    device = torch.device("cpu")

    def draw(name, *key):
        return torch.rand(4, generator=seeded_generator(name, device, *key))

    assert torch.equal(draw("opm", 1, 2), draw("opm", 1, 2))
    assert not torch.equal(draw("opm", 1, 2), draw("opm", 2, 1))
    assert not torch.equal(draw("opm", 1, 2), draw("ogm", 1, 2))


@pytest.mark.parametrize("key", [(), (0,), (42, 7, 0), (2**32 - 1, 1), (2**32, 1), (1, 2**70)])
def test_a_generator_has_the_seed_that_numpy_makes_of_its_key(key):
    seed = np.random.SeedSequence([*b"opm", *key]).generate_state(1, np.uint64)[0]
    assert seeded_generator("opm", torch.device("cpu"), *key).initial_seed() == int(seed)


def test_a_checkpoint_of_other_modulations_warns():
    saved = ModulationStack([OPM()], ("a", "b")).state_dict()
    ModulationStack([OPM()], ("a", "b")).load_state_dict(saved)
    with pytest.warns(UserWarning, match=r"written with the modulations \['opm'\], this training has \['ogm'\]"):
        ModulationStack([OGM()], ("a", "b")).load_state_dict(saved)


class Remembering(Modulation):
    name = "remembering"
    phase = "features"
    kept = ("seen", "last")

    def forget(self):
        self._seen, self._last, self._draft = {"a": [torch.zeros(1)]}, None, 0


def test_what_a_method_remembers_is_kept_restored_and_forgotten():
    first, second = Remembering(), Remembering()
    first._last, first._draft = 3, 5
    state = first.state_dict()
    first._seen["a"].append(torch.ones(1))
    assert set(state) == {"means", "seen", "last"} and len(state["seen"]["a"]) == 1
    second.load_state_dict(state)
    second._seen["a"].clear()
    assert second._last == 3 and second._draft == 0 and len(state["seen"]["a"]) == 1
    assert state["seen"]["a"][0] is first._seen["a"][0]  # no tensor is copied
    first.reset()
    assert (len(first._seen["a"]), first._last, first._draft) == (1, None, 0)


@dataclass
class ChosenConfig(ModulationConfig):
    share: float | None = option(None, "Of all, in (0, 1].", "(0, 1]")
    kind: str = option("plain", "Of what: plain or odd.", ("plain", "odd"))
    times: int = option(1, "How often.", check_count)
    is_on: bool = option(False, "Whether.")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": 0}, r"share must be a number in \(0, 1\], found 0"),
        ({"share": 1.1}, r"share must be a number in \(0, 1\], found 1.1"),
        ({"share": math.nan}, r"share must be a number in \(0, 1\], found nan"),
        ({"share": True}, r"share must be a number in \(0, 1\], found True"),
        ({"kind": "pain"}, r"kind must be one of \['plain', 'odd'\], found 'pain'. Did you mean 'plain'"),
        ({"kind": None}, "kind must be one of"),
        ({"times": 1.5}, "times must be a whole number of at least 1, found 1.5"),
        ({"is_on": "no"}, r"is_on must be one of \[True, False\], found 'no'"),
        ({"unit": "epoch"}, r"unit must be one of .* Did you mean 'epochs'"),
        ({"start": -1}, r"start must be a number in \[0, inf\], found -1"),
    ],
)
def test_options_are_checked_by_what_their_fields_accept(options, message):
    with pytest.raises(ValueError, match=message):
        ChosenConfig(**options)


def test_options_at_the_ends_of_what_they_accept():
    assert ChosenConfig(share=1, kind="odd", times=2, is_on=True).share == 1
    assert ChosenConfig().share is None
