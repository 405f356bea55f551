from __future__ import annotations

import math
import warnings

import pytest
import torch
from tiny import tiny_dataset, tiny_model
from torch import nn

from hf_bml import MultimodalBalancedTrainer
from hf_bml.ground.task import CLASSIFICATION, masked_mean
from hf_bml.modulation import CopyLosses, GradientBlending, Step
from hf_bml.modulation.gradient_blending import (
    blending_weights,
    classifier_losses,
    generalisation_gain,
    overfitting_gain,
)

AUDIO, VISUAL, JOINT = CopyLosses(2, 2, 0.5, 1.2), CopyLosses(2, 2, 1.0, 1.5), CopyLosses(2, 2, 0.3, 1.1)


def test_weights_of_the_hand_computed_case():
    """T-D1."""
    losses = [AUDIO, VISUAL, JOINT]
    assert [generalisation_gain(each) for each in losses] == pytest.approx([0.8, 0.5, 0.9])
    assert [overfitting_gain(each) for each in losses] == pytest.approx([0.7, 0.5, 0.8])
    assert blending_weights(losses) == pytest.approx([0.324010, 0.396912, 0.279079], abs=1e-6)


@pytest.mark.parametrize(("rows", "spread"), [(4, "0.50"), (40, "0.27"), (299, "0.10"), (300, None)])
def test_few_held_out_rows_are_said_to_be_unstable(rows, spread):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        GradientBlending().warn_if_few_held_out(rows)
    expected = [] if spread is None else [f"what {rows} held-out rows say (held_out=0.08), which is unreliable"]
    assert len(caught) == len(expected)
    for warning, text in zip(caught, expected, strict=True):
        assert text in str(warning.message) and f"vary by about {spread} with other rows" in str(warning.message)


def test_weights_from_few_rows_spread_as_the_warning_says():
    """Held-out losses drawn anew, around a gain of 1 and a growth of the gap of 1.5."""
    generator = torch.Generator().manual_seed(0)

    def weights(rows):
        noise = 3 / math.sqrt(rows) * torch.randn(2, generator=generator, dtype=torch.float64)
        return blending_weights([CopyLosses(2.3, 2.3, -0.2, 1.3 + each) for each in noise.tolist()])

    spread = {rows: torch.tensor([weights(rows)[0] for _ in range(400)]).std().item() for rows in (10, 40, 1000)}
    assert spread[10] > 0.3 and spread[40] > 0.2 and spread[1000] < 0.1


def test_only_the_growth_counts():
    """The same gains from another start, where the gap between the splits is not 0."""
    shifted = CopyLosses(3.0, 3.4, 1.5, 2.6)  # dG = 0.8, O from 0.4 to 1.1
    assert blending_weights([shifted, VISUAL, JOINT]) == pytest.approx(blending_weights([AUDIO, VISUAL, JOINT]))


@pytest.mark.parametrize("worse", [CopyLosses(2, 2, 0.1, 2.5), CopyLosses(2, 2, 1, 2), CopyLosses(2, 2, 1, math.nan)])
def test_what_does_not_generalise_gets_no_weight(worse):
    assert blending_weights([worse, VISUAL]) == [0, 1]
    assert blending_weights([worse, worse, worse]) == pytest.approx([1 / 3] * 3)


def test_vanishing_overfitting_is_bounded():
    """dO = 0 counts as 1e-3: 0.5 / 1e-6 against 0.5 / 0.25."""
    none = CopyLosses(2, 2, 1.5, 1.5)
    assert blending_weights([none, VISUAL]) == pytest.approx([0.5e6 / (0.5e6 + 2), 2 / (0.5e6 + 2)])


def test_losses_count_the_samples_that_have_the_modality():
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    output = {
        "logits": logits,
        "auxiliary_logits": {"audio": logits, "visual": logits},
        "modality_mask": torch.tensor([[True, False], [True, True]]),
    }
    labels = torch.tensor([0, 0])
    each = [math.log(1 + math.exp(-2)), math.log(1 + math.e)]
    for name, expected in (("audio", sum(each) / 2), ("visual", each[1]), ("joint", sum(each) / 2)):
        found = masked_mean(*classifier_losses(output, labels, name, CLASSIFICATION))
        assert found.item() == pytest.approx(expected, abs=1e-6), name
    assert masked_mean(torch.ones(2), torch.zeros(2, dtype=torch.bool)).item() == 0


def test_losses_of_segments_are_averaged_by_clip():
    logits = torch.tensor([[[2.0, 0.0], [0.0, 1.0]], [[0.0, 0.0], [0.0, 3.0]]])
    present = torch.tensor([[True], [False]])
    output = {"logits": logits, "auxiliary_logits": {"audio": logits}, "modality_mask": present}
    first = (math.log(1 + math.exp(-2)) + math.log(1 + math.e)) / 2
    second = (math.log(2) + math.log(1 + math.exp(-3))) / 2
    for name, counted in (("joint", [True, True]), ("audio", [True, False])):
        losses, counts = classifier_losses(output, torch.tensor([[0, 0], [1, 1]]), name, CLASSIFICATION)
        assert losses.tolist() == pytest.approx([first, second], abs=1e-6) and counts.tolist() == counted


def blending_model(**options):
    return tiny_model(dtype=torch.float64, auxiliary_loss_weight=0.0, **options)


def loss_of(model, rows, name):
    output = model(audio=rows["audio"], visual=rows["visual"])
    logits = output.logits if name == "joint" else output.auxiliary_logits[name]
    return nn.functional.cross_entropy(logits, rows["labels"])


def descend(model, dataset, loss, steps, batch=8, learning_rate=0.1, momentum=0.9):
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=momentum)
    for step in range(steps):
        start = step * batch % len(dataset)
        optimizer.zero_grad()
        loss(model, dataset[start : start + batch]).backward()
        optimizer.step()


def test_estimate_and_training_equal_an_independent_loop(training_args):
    """Every classifier trained alone and from the start in plain PyTorch; then the run on the blend."""
    dataset = tiny_dataset(dtype=torch.float64, samples=48)
    args = training_args(
        modulations={"gradient_blending": {"held_out": 1 / 6, "estimation_epochs": 2}},
        train_sampling_strategy="sequential",
        max_grad_norm=0,
        max_steps=12,
    )
    with pytest.warns(UserWarning, match="what 8 held-out rows say"):
        trainer = MultimodalBalancedTrainer(blending_model(), args, train_dataset=dataset)
    rest, held_out = trainer.train_dataset, trainer.held_out_dataset
    assert len(rest) == 40 and len(held_out) == 8
    trainer.train()
    losses = {}
    for name in ("audio", "visual", "joint"):
        model = blending_model()
        with torch.no_grad():
            before = [loss_of(model, split[:], name).item() for split in (rest, held_out)]
        descend(model, rest, lambda m, rows, name=name: loss_of(m, rows, name), steps=10)
        with torch.no_grad():
            after = [loss_of(model, split[:], name).item() for split in (rest, held_out)]
        losses[name] = CopyLosses(*before, *after)
    weights = dict(zip(losses, blending_weights(list(losses.values())), strict=True))
    assert len({round(weight, 3) for weight in weights.values()}) == 3
    summary = trainer.modulation.summary()["gradient_blending"]
    (estimate,) = summary["estimates"]
    assert estimate["weights"] == pytest.approx(weights, rel=1e-9)
    assert summary["estimation_seconds"] > 0
    logs = trainer.state.log_history[0]
    assert logs["gradient_blending/weight_visual"] == pytest.approx(weights["visual"], rel=1e-6)
    assert logs["gradient_blending/weight_joint"] == pytest.approx(weights["joint"], rel=1e-6)
    assert logs["gradient_blending/estimation_seconds"] > 0
    model = blending_model()
    descend(model, rest, lambda m, rows: sum(w * loss_of(m, rows, name) for name, w in weights.items()), steps=12)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(trainer.model.get_parameter(name), parameter, atol=1e-12, rtol=0)


def test_offline_without_a_length_trains_as_long_as_the_run(training_args):
    """Two epochs of five steps; the schedule of the copies is the run's, down to 0."""
    seen = {}
    for estimation_epochs in (None, 2, 1):
        args = training_args(
            modulations={"gradient_blending": {"held_out": 1 / 6, "estimation_epochs": estimation_epochs}},
            max_steps=-1,
            num_train_epochs=2,
            lr_scheduler_type="linear",
        )
        trainer = MultimodalBalancedTrainer(
            blending_model(), args, train_dataset=tiny_dataset(dtype=torch.float64, samples=48)
        )
        trainer.train()
        seen[estimation_epochs] = trainer.modulation.summary()["gradient_blending"]["estimates"][0]["losses"]
    assert seen[None] == seen[2] != seen[1]


def test_online_estimates_anew_every_super_epoch_and_resumes_without(training_args, tmp_path, monkeypatch):
    """Five steps an epoch, a super-epoch of one: estimates at epochs 0, 1 and 2, then resumed inside epoch 2."""
    options = {
        "modulations": {"gradient_blending": {"mode": "online", "super_epoch": 1, "held_out": 1 / 6}},
        "max_steps": 14,
        "lr_scheduler_type": "linear",
    }
    dataset = tiny_dataset(dtype=torch.float64, samples=48)
    args = training_args(**options, output_dir=str(tmp_path), save_strategy="steps", save_steps=12)
    whole = MultimodalBalancedTrainer(blending_model(), args, train_dataset=dataset)
    whole.train()
    estimates = whole.modulation.summary()["gradient_blending"]["estimates"]
    assert [estimate["epoch"] for estimate in estimates] == [0, 1, 2]
    starts = [estimate["losses"]["joint"]["train_before"] for estimate in estimates]
    assert starts[0] > starts[1] > starts[2]  # from the weights then reached
    resumed = MultimodalBalancedTrainer(
        blending_model(seed=5), training_args(**options, output_dir=str(tmp_path)), train_dataset=dataset
    )
    calls = []
    monkeypatch.setattr("hf_bml.training.run.train_copies", lambda *arguments: calls.append(arguments))
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-12"))
    assert not calls
    assert resumed.modulation.summary()["gradient_blending"]["estimates"] == estimates
    for name, parameter in whole.model.named_parameters():
        assert torch.equal(parameter, resumed.model.get_parameter(name)), name


def test_training_again_estimates_again(training_args):
    args = training_args(modulations={"gradient_blending": {"estimation_epochs": 1}})
    trainer = MultimodalBalancedTrainer(
        blending_model(), args, train_dataset=tiny_dataset(dtype=torch.float64, samples=48)
    )
    trainer.train()
    first = trainer.modulation.summary()["gradient_blending"]["estimates"]
    trainer.train()
    second = trainer.modulation.summary()["gradient_blending"]["estimates"]
    assert len(first) == len(second) == 1
    assert second[0]["losses"]["joint"]["train_before"] < first[0]["losses"]["joint"]["train_before"]


def test_waits_for_its_window():
    blending = GradientBlending(start=3)
    assert not blending.is_active(Step(("audio",), epoch=2.9))
    assert blending.logs() == {} and blending.summary()["estimates"] == []


@pytest.mark.parametrize("options", [{}, {"unimodal_prediction": "probe"}])
def test_a_model_without_classifiers_of_the_modalities(training_args, options):
    args = training_args(modulations={"gradient_blending": {}})
    with pytest.raises(ValueError, match="Set auxiliary_loss_weight: 0 in the model's config"):
        MultimodalBalancedTrainer(tiny_model(**options), args, train_dataset=tiny_dataset())


def test_shared_encoders(training_args):
    model = tiny_model(auxiliary_loss_weight=0.0)
    model.encoders["visual"] = model.encoders["audio"]
    with pytest.raises(ValueError, match=r"share parameters, so \['gradient_blending'\]"):
        MultimodalBalancedTrainer(model, training_args(modulations={"gradient_blending": {}}))


def test_a_modality_called_joint():
    with pytest.raises(ValueError, match="no modality can have this name"):
        GradientBlending().bind(("audio", "joint"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "sometimes"}, "mode must be one of"),
        ({"super_epoch": 0}, "super_epoch"),
        ({"estimation_epochs": 0}, "estimation_epochs"),
        ({"held_out": 1}, r"held_out must be a number in \(0, 1\), found 1"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        GradientBlending(**options)
