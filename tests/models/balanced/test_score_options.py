"""A training step in `balance()` runs the rest of the model once, and scores when, and of what, it is told to."""

from __future__ import annotations

import copy
import math
from contextlib import nullcontext

import pytest
import torch
from refused_methods import REFUSED
from test_balance import Keep, Noisy, batch, build
from tiny import tiny_dataset
from torch import nn

from hf_bml import MODULATIONS, MultimodalBalancedTrainer, balance
from hf_bml.models.balanced.outputs import rows_of, spread_rows
from hf_bml.modulation import Modulation
from hf_bml.modulation.ogm import gradient_coefficients
from hf_bml.modulation.opm import drop_probabilities
from hf_bml.testing import samples
from hf_bml.testing.training import Setting, Subject, train, use_gradient_scaler

PATHS = {"audio": "hear", "visual": "see"}
LABELS = torch.tensor([0, 1, 2, 0])


class Model(nn.Module):
    """Dropout in an encoder and behind the encoders; `weight` is an input that goes past the encoders."""

    def __init__(self, dropout=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.hear = nn.Sequential(nn.Linear(5, 8), nn.Dropout(dropout))
        self.see, self.dropout = nn.Linear(7, 8), nn.Dropout(dropout)
        self.head = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))

    def forward(self, audio, visual, weight=None):
        joint = self.hear(audio) + self.see(visual)
        return {"logits": self.head(self.dropout(joint if weight is None else joint * weight))}


def wrap(model, **options):
    return balance(model, PATHS, num_labels=3, **options)


def inputs(rows=4):
    generator = torch.Generator().manual_seed(1)
    return {"audio": torch.randn(rows, 5, generator=generator), "visual": torch.randn(rows, 7, generator=generator)}


def trainer_of(training_args, steps, methods=None, model=None, **options):
    arguments = {"per_device_train_batch_size": 4, "logging_steps": 1, "max_steps": steps, **options}
    methods = {"opm": {}, "ogm": {}} if methods is None else methods
    return MultimodalBalancedTrainer(
        wrap(Model(0.3), score_every=3, score_fraction=0.5) if model is None else model,
        training_args(modulations=methods, **arguments),
        train_dataset=tiny_dataset(),
    )


# One pass


@pytest.mark.parametrize("scored", [True, False])
def test_what_a_training_forward_runs(scored):
    model, calls = wrap(Model()), []
    model(**inputs(), labels=LABELS)  # the first one checks
    for part in (model.model.hear[0], model.model.head):
        part.register_forward_hook(lambda module, *_: calls.append(module))
    with torch.autocast("cpu", torch.bfloat16):  # which keeps the weights that it has cast, also without a gradient
        output = model(**inputs(), labels=LABELS, score_modalities=scored)
    output.loss.backward()
    assert calls.count(model.model.hear[0]) == 1
    assert calls.count(model.model.head) == (3 if scored else 1)
    assert list(output.unimodal_logits) == (["audio", "visual"] if scored else [])
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def without_dropout():
    torch.manual_seed(0)
    inner = Noisy()
    inner.dropout = nn.Identity()
    model = balance(inner, {"image": "see", "text": "read"}, logits=lambda output: output, num_labels=3)
    return model, {"image": torch.randn(4, 4), "text": torch.randn(4, 3)}


@pytest.mark.parametrize("name", ["batch norm", "clip", "llava"])
def test_ending_a_forward_behind_the_encoders_changes_nothing(name):
    """Bitwise, against a forward that runs to its end before the modalities are scored."""
    model, given = without_dropout() if name == "batch norm" else (build(name), batch())
    keep = Keep(torch.tensor([[False, True], [True, True], [True, False], [True, True]]))
    model(**given)
    whole = copy.deepcopy(model)
    whole._is_called_once = False
    found, expected = (each(**given, labels=LABELS, modulation=keep) for each in (model, whole))
    assert torch.equal(found.logits, expected.logits)
    assert all(torch.equal(found.unimodal_logits[m], expected.unimodal_logits[m]) for m in model.paths)
    found.loss.backward(), expected.loss.backward()
    for (name, one), other in zip(model.named_parameters(), whole.parameters(), strict=True):
        assert (one.grad is None and other.grad is None) or torch.equal(one.grad, other.grad), name
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), whole.buffers(), strict=True))


@pytest.mark.parametrize("options", [{}, {"score_modalities": False}, {"modulation": Keep(None)}])
def test_dropout_draws_as_in_the_model_alone(options):
    model = wrap(Model(0.5))
    model(**inputs(), labels=LABELS)
    torch.manual_seed(3)
    expected = model.model(**inputs())["logits"]
    after = torch.get_rng_state()
    torch.manual_seed(3)
    assert torch.equal(model(**inputs(), labels=LABELS, **options).logits, expected)
    assert torch.equal(torch.get_rng_state(), after)


class Wary(Model):
    """Reports what goes wrong in its encoders, and takes it for its own fault."""

    def forward(self, audio, visual):
        try:
            return super().forward(audio, visual)
        except Exception as error:
            raise RuntimeError("the encoders failed") from error


def test_a_model_that_catches_exceptions():
    model = wrap(Wary())
    for _ in range(2):
        assert torch.equal(model(**inputs(), labels=LABELS).logits, model.model(**inputs())["logits"])
    with pytest.raises(RuntimeError, match="the encoders failed"):
        model(audio=torch.randn(4, 9), visual=inputs()["visual"], labels=LABELS)


class Frames(Model):
    """Calls one encoder for every frame."""

    def forward(self, audio, visual):
        heard = sum(self.hear(frame) for frame in audio.unbind(1))
        return {"logits": self.head(heard + self.see(visual))}


def test_an_encoder_that_is_called_more_often_in_a_later_batch():
    torch.manual_seed(0)
    model = wrap(Frames())
    one, three = (torch.randn(4, frames, 5) for frames in (1, 3))
    visual = inputs()["visual"]
    model(audio=one, visual=visual, labels=LABELS)
    for audio in (three, one, three):
        for options in ({"score_modalities": False}, {}):
            output = model(audio=audio, visual=visual, labels=LABELS, **options)
            torch.testing.assert_close(output.logits, model.model(audio, visual)["logits"])


class Hesitant(Model):
    """Calls an encoder again where its first output is zero."""

    def forward(self, audio, visual):
        heard = self.hear(audio)
        return {"logits": self.head((heard if heard.any() else self.hear(audio)) + self.see(visual))}


def test_a_number_of_calls_that_depends_on_the_outputs_is_refused():
    with pytest.raises(ValueError, match="'audio', hear, was called 1 times in the model's forward, and is"):
        wrap(Hesitant())(**inputs())


# Of which samples


@pytest.mark.parametrize(
    ("rows", "fraction", "expected"),
    [
        (8, 0.5, [0, 2, 4, 6]),
        (8, 0.25, [0, 4]),
        (10, 0.3, [0, 3, 6]),
        (4, 0.01, [0]),
        (4, 1.0, None),
        (3, 0.99, None),
        (1, 0.5, None),
    ],
)
def test_evenly_spread_rows(rows, fraction, expected):
    found = spread_rows(rows, fraction, torch.device("cpu"))
    assert found is None if expected is None else found.tolist() == expected


def test_rows_of_whatever_holds_tensors():
    rows = torch.tensor([1, 3])
    folded = torch.arange(8.0).view(8, 1)  # two frames a sample
    found = rows_of({"a": (folded, torch.arange(4)), "b": torch.arange(3), "c": None, "d": torch.tensor(2)}, rows, 4)
    assert found["a"][0].flatten().tolist() == [2, 3, 6, 7] and found["a"][1].tolist() == [1, 3]
    assert found["b"].tolist() == [0, 1, 2] and found["c"] is None and found["d"] == 2


@pytest.mark.parametrize("mask", [None, torch.tensor([[True, False], [True, True], [False, True], [True, True]])])
def test_a_fraction_is_scored_as_in_the_whole_batch(mask):
    whole, part = wrap(Model()), wrap(Model(), score_fraction=0.5)
    given = {**inputs(), "weight": torch.rand(4, 1), "labels": LABELS, "modality_mask": mask}
    expected, found = whole(**given), part(**given)
    assert expected.scored_rows is None and found.scored_rows.tolist() == [0, 2]
    for name in PATHS:
        torch.testing.assert_close(found.unimodal_logits[name], expected.unimodal_logits[name][[0, 2]])
    assert torch.equal(found.logits, expected.logits)
    unlabelled = part(**{**given, "labels": None})
    evaluated = part.eval()(**given)
    for output in (unlabelled, evaluated):
        assert output.scored_rows is None and len(output.unimodal_logits["audio"]) == 4


class Names(Model):
    """Reads a list, which balance() cannot cut by samples."""

    def forward(self, audio, visual, names):
        return super().forward(audio, visual, torch.tensor([[float(len(name))] for name in names]))


class Table(Model):
    """Reads a table with as many rows as the first batch has."""

    def forward(self, audio, visual, names):
        return super().forward(audio, visual, names.sum())


@pytest.mark.parametrize(
    ("kind", "names", "found"),
    [(Names, ["a", "bc", "d", "ef"], "RuntimeError: .*size"), (Table, torch.rand(4, 2), "other logits")],
)
def test_inputs_that_cannot_be_cut_by_samples_are_refused(kind, names, found):
    wrap(kind())(**inputs(), names=names, labels=LABELS)
    with pytest.raises(ValueError, match=rf"2 samples alone as in their batch of 4, found {found}.*score_fraction="):
        wrap(kind(), score_fraction=0.5)(**inputs(), names=names, labels=LABELS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score_every": 0}, "score_every must be .*found 0"),
        ({"score_every": 1.5}, "score_every must be .*found 1.5"),
        ({"score_every": True}, "score_every must be .*found True"),
        ({"score_fraction": 0}, r"score_fraction must be a number in \(0, 1\], found 0"),
        ({"score_fraction": 1.1}, "found 1.1"),
        ({"score_fraction": math.nan}, "found nan"),
        ({"score_fraction": "half"}, "found 'half'"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        wrap(Model(), **options)


# In which steps


def logged(trainer, name):
    """By step, from 1: what was logged of both modalities."""
    keys = [f"{name}_{modality}" for modality in PATHS]
    entries = [entry for entry in trainer.state.log_history if keys[0] in entry]
    return {entry["step"]: torch.tensor([entry[key] for key in keys]) for entry in entries}


def test_between_scored_steps_the_last_ratios_stand(training_args):
    """OPM follows those of the steps before, OGM those of the step itself if it was scored."""
    trainer = trainer_of(training_args, 8)
    trainer.train()
    ratios = logged(trainer, "balance/ratio")
    assert list(ratios) == [1, 4, 7]
    assert len({ratio[0].item() for ratio in ratios.values()}) == 3
    probabilities, coefficients = logged(trainer, "opm/drop_probability"), logged(trainer, "ogm/coefficient")
    assert list(probabilities) == list(coefficients) == list(range(1, 9))
    assert probabilities[1].tolist() == [0, 0]
    for step in range(1, 9):
        latest = ratios[max(scored for scored in ratios if scored <= step)]
        torch.testing.assert_close(coefficients[step], gradient_coefficients(latest, 0.8))
        if step > 1:
            before = ratios[max(scored for scored in ratios if scored < step)]
            torch.testing.assert_close(probabilities[step], drop_probabilities(before, 0.5, 0.5))


class Watching(Modulation):
    """Notes when the modalities were scored."""

    name = "watching"
    phase = "features"

    def forget(self):
        self.scored = []

    def end_step(self, step):
        self.scored.append(step.scored)


def test_the_scores_of_a_fraction_are_scaled_up_to_the_batch(training_args):
    found = {}
    for name, options in {"all": {}, "some": {"score_every": 2, "score_fraction": 0.5}}.items():
        torch.manual_seed(0)
        model = wrap(Model(), **options)
        trainer = trainer_of(training_args, 1, {}, model, gradient_accumulation_steps=2)
        with torch.no_grad():
            for parameter in model.model.head[-1].parameters():
                parameter.zero_()  # and every sample's score is a third
        trainer.train()
        found[name] = trainer.monitor.scores
    torch.testing.assert_close(found["some"], found["all"])


def test_a_step_without_any_scores_yet_is_scored(training_args):
    """The first one is skipped by fp16, and leaves none."""
    watching = Watching()
    trainer = MultimodalBalancedTrainer(
        wrap(Model(), score_every=3),
        training_args(per_device_train_batch_size=4, max_steps=5, fp16=True),
        [watching],
        train_dataset=tiny_dataset(),
    )
    use_gradient_scaler(trainer, 2.0**10, autocast=False)
    weight = trainer.model.model.see.weight
    weight.register_hook(lambda gradient: gradient * (math.inf if trainer.state.global_step == 0 else 1.0))
    trainer.train()
    assert watching.scored == [True, True, False, True, False]


def test_resuming_between_two_scored_steps_is_bitwise(training_args, tmp_path):
    options = {"save_strategy": "steps", "save_steps": 5, "gradient_accumulation_steps": 2}
    straight = trainer_of(training_args, 8, **options)
    straight.train()
    resumed = trainer_of(training_args, 8, **options)
    with torch.no_grad():
        for parameter in resumed.model.parameters():
            parameter.zero_()
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-5"))
    for name, value in straight.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    for key in ("balance/ratio", "balance/score", "opm/drop_fraction", "ogm/coefficient"):
        assert {s: v.tolist() for s, v in logged(straight, key).items()} == {
            s: v.tolist() for s, v in logged(resumed, key).items()
        }


def test_a_loss_that_is_not_finite_where_nothing_was_scored(training_args):
    trainer = trainer_of(training_args, 3, {}, logging_steps=3)
    trainer.model.model.head.register_forward_hook(
        lambda module, _, logits: logits * (math.nan if trainer.state.global_step == 1 else 1.0)
    )
    message = (
        "loss of step 2 is not finite: lower the learning rate, or look for inf or NaN in the inputs.* the weights"
    )
    with pytest.raises(ValueError, match=message):
        trainer.train()


# Every method


READING = {"inforeg"}  # each batch's unimodal logits, with the options of the property suite


@pytest.mark.parametrize("name", sorted(name for name in MODULATIONS if ":" not in name))
def test_every_method_works_or_is_refused_by_name(monkeypatch, name):
    def seldom(modalities, options):
        model = samples.balanced_model(modalities, options)
        return balance(model.model, model.paths, num_labels=samples.LABELS, score_every=2, score_fraction=0.5)

    kind = samples.Kind(("audio", "visual"), seldom, samples.balanced_data)
    monkeypatch.setitem(samples.KINDS, "seldom", kind)
    refused = name in REFUSED["balance"] | READING
    with pytest.raises(ValueError, match=name) if refused else nullcontext():
        outcome = train(Subject(MODULATIONS.find(name)), Setting(kind="seldom", steps=2))
        assert all(value.isfinite().all() for value in outcome.weights.values())


@pytest.mark.parametrize("options", [{"score_every": 2}, {"score_fraction": 0.5}])
@pytest.mark.parametrize(
    "methods",
    [
        {"opm": {"timing": "current"}},
        {"ogm": {"placement": "graph"}},
        {"ogm": {"rescore_after_drop": True}},
        {"data_remixing": {"assignment": "batch"}},
        {"inforeg": {}},
    ],
)
def test_methods_that_read_each_batchs_predictions_are_refused(training_args, methods, options):
    [name] = methods
    with pytest.raises(ValueError, match=rf"\['{name}'\] read each batch's unimodal .*balance\(score_every="):
        trainer_of(training_args, 1, methods, wrap(Model(), **options))
