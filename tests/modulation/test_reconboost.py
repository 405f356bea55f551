from __future__ import annotations

import copy
import itertools

import pytest
import torch
from tiny import hand_computed_case
from tiny_images import tiny_image_dataset, tiny_image_model

from hf_bml import MultimodalBalancedTrainer
from hf_bml.ground.task import CLASSIFICATION
from hf_bml.modulation import MicroBatch, ReconBoost, Step
from hf_bml.modulation.reconboost import residual_weights, stage_of, with_weighted_gradient

SHARED = {"fusion": "shared", "shared_prediction": "sum"}
NAMES = ("audio", "visual")


def trainer_of(args, modalities=NAMES, **options):
    model = tiny_image_model(modalities, **SHARED, **options)
    return MultimodalBalancedTrainer(model, args, train_dataset=tiny_image_dataset(modalities))


def test_the_losses_of_the_worked_example():
    logits, labels = hand_computed_case()
    weights = residual_weights(CLASSIFICATION.score(logits["visual"], labels), 5.0, 1.0)
    torch.testing.assert_close(weights, torch.tensor([4.4, 4.5]))
    losses = weights * CLASSIFICATION.losses(logits["audio"], labels)
    torch.testing.assert_close(losses, torch.tensor([0.463586, 1.004146]), atol=1e-6, rtol=0)
    assert losses.mean().item() == pytest.approx(0.733866, abs=1e-6)


class View:
    """A model's forward whose head has the logits of the worked example."""

    def __init__(self, logits):
        self.logits = logits

    def head_graph(self):
        return self.logits


def first_phase(method, stage=0, mask=None):
    """The losses of a stage's first phase, of the worked example, and the gradients of its logits."""
    logits, labels = hand_computed_case()
    logits = {name: each.requires_grad_() for name, each in logits.items()}
    method.bind(NAMES)
    step = Step(NAMES, epoch=8.0 * stage)
    method.begin_step(Step(NAMES, epoch=0.0) if stage < 0 else step)
    batch = MicroBatch(logits, labels, mask, view=View(logits))
    losses = method.forward_losses({}, batch, step)
    gradients = torch.autograd.grad(sum(losses.values()), logits.values(), allow_unused=True)
    return losses, dict(zip(NAMES, gradients, strict=True)), logits, labels


@pytest.mark.parametrize("preset", ["paper", "released"])
def test_the_gradient_is_that_of_the_weighted_mean(preset):
    """In the first stage nothing comes before, so there is no agreement."""
    losses, gradients, logits, labels = first_phase(ReconBoost(preset=preset))
    weighted = (torch.tensor([4.4, 4.5]) * CLASSIFICATION.losses(logits["audio"], labels)).mean()
    weighted = weighted / {"paper": 1, "released": 2}[preset]
    assert weighted.item() == pytest.approx({"paper": 0.733866, "released": 0.366933}[preset], abs=1e-6)
    [expected] = torch.autograd.grad(weighted, [logits["audio"]])
    torch.testing.assert_close(gradients["audio"], expected)
    assert gradients["visual"] is None and list(losses) == ["audio"]


def test_without_w2_it_is_the_own_loss_times_w1():
    _, gradients, logits, labels = first_phase(ReconBoost(w1=3.0, w2=0.0))
    [expected] = torch.autograd.grad(3 * CLASSIFICATION.loss(logits["audio"], labels), [logits["audio"]])
    torch.testing.assert_close(gradients["audio"], expected)


def test_a_sample_that_has_nothing_else_weighs_w1():
    mask = torch.tensor([[True, False], [True, True]])
    _, gradients, logits, labels = first_phase(ReconBoost(), mask=mask)
    weighted = (torch.tensor([5.0, 4.5]) * CLASSIFICATION.losses(logits["audio"], labels)).mean()
    [expected] = torch.autograd.grad(weighted, [logits["audio"]])
    torch.testing.assert_close(gradients["audio"], expected)


def test_the_agreement_with_the_stage_before():
    """Stage 1 trains visual, p = (0.6, 0.4 | 0.5, 0.5), and compares it with audio, (0.9, 0.1 | 0.2, 0.8)."""
    losses, gradients, *_ = first_phase(ReconBoost(), stage=1)
    p, q = torch.tensor([[0.6, 0.4], [0.5, 0.5]]), torch.tensor([[0.9, 0.1], [0.2, 0.8]])
    expected = 0.5 * (p * (p / q).log()).sum(1).mean()
    torch.testing.assert_close(losses["reconboost agreement"].detach(), expected)
    assert gradients["audio"] is None and gradients["visual"].any()
    mask = torch.tensor([[False, True], [True, True]])
    losses, *_ = first_phase(ReconBoost(), stage=1, mask=mask)
    torch.testing.assert_close(losses["reconboost agreement"].detach(), 0.5 * (p * (p / q).log())[1].sum())


def test_three_modalities_one_of_which_a_sample_lacks():
    """Stage 3 trains audio again and compares it with text; the others know what the sum of their logits says."""
    names = ("audio", "visual", "text")
    logits, labels = hand_computed_case()
    logits = {**logits, "text": torch.tensor([[0.3, -0.2], [2.0, -1.0]])}
    logits["audio"].requires_grad_()
    mask = torch.tensor([[True, True, True], [True, True, False]])
    method = ReconBoost(alternating_epochs=1.0, joint_epochs=1.0)
    method.bind(names)
    step = Step(names, epoch=6.0)
    method.begin_step(step)
    losses = method.forward_losses({}, MicroBatch(logits, labels, mask, view=View(logits)), step)
    others = torch.stack([logits["visual"][0] + logits["text"][0], logits["visual"][1]])
    weights = 5 - others.softmax(1)[[0, 1], labels]
    [expected] = torch.autograd.grad(
        (weights * CLASSIFICATION.losses(logits["audio"], labels)).mean(), [logits["audio"]]
    )
    [found] = torch.autograd.grad(losses["audio"], [logits["audio"]])
    torch.testing.assert_close(found, expected)
    p, q = logits["audio"][0].softmax(0), logits["text"][0].softmax(0)  # of the sample that has both
    torch.testing.assert_close(losses["reconboost agreement"], 0.5 * (p * (p / q).log()).sum())


def test_the_weight_falls_with_what_the_others_know():
    weights = residual_weights(torch.linspace(0, 1, 5), 4.0, 3.9)
    assert (weights.diff() < 0).all() and (weights > 0).all()
    segments = with_weighted_gradient(torch.ones(2, 3, 4, requires_grad=True), torch.full((2, 3), 2.0))
    assert torch.equal(segments, torch.ones(2, 3, 4))


def test_stages():
    assert [stage_of(epoch, 1, 0) for epoch in range(3)] == [(0, True), (1, True), (2, True)]


def test_what_moves_in_which_phase(training_args):
    """Four steps an epoch: one for a modality, one for all. Momentum is forgotten in between, weight decay is not."""
    options = {"alternating_epochs": 0.25, "joint_epochs": 0.25}
    args = training_args(
        modulations={"reconboost": options}, max_steps=5, weight_decay=0.1, per_device_train_batch_size=12
    )
    trainer = trainer_of(args)
    weights, momenta, step = [], [], trainer.training_step

    def recorded(*arguments, **options):
        weights.append({n: copy.deepcopy(list(own.parameters())) for n, own in trainer.model.encoders.items()})
        loss = step(*arguments, **options)
        momenta.append(len(trainer.optimizer.state))
        return loss

    trainer.training_step = recorded
    trainer.train()
    moved = [
        {name for name in before if not all(map(torch.equal, before[name], after[name]))}
        for before, after in itertools.pairwise(weights)
    ]
    assert moved == [{"audio"}, {"audio", "visual"}, {"visual"}, {"audio", "visual"}]
    assert momenta == [0] * 5


@pytest.mark.parametrize(
    ("options", "audio", "visual"),
    [
        ({"alternating_epochs": 0.25, "reset_momentum": False}, [True, True, False, True], [False, True, True, True]),
        (
            {"alternating_epochs": 0.5, "start": 1, "unit": "steps"},
            [True, True, True, False],
            [True, False, True, True],
        ),
    ],
)
def test_momentum_does_not_move_a_projection_of_the_others(training_args, options, audio, visual):
    """By step, whether the projections to a shared width move: kept from a step for all, or from before a window."""
    args = training_args(
        modulations={"reconboost": {"joint_epochs": 0.25, **options}}, max_steps=5, per_device_train_batch_size=12
    )
    trainer = trainer_of(args, shared_width=5)
    weights, step = [], trainer.training_step

    def recorded(*arguments, **options):
        weights.append(copy.deepcopy(trainer.model.head.projections.state_dict()))
        return step(*arguments, **options)

    trainer.training_step = recorded
    trainer.train()
    for name, expected in (("audio", audio), ("visual", visual)):
        own = [state[f"{name}.weight"] for state in weights]
        assert [not torch.equal(before, after) for before, after in itertools.pairwise(own)] == expected


def test_momentum_may_be_kept(training_args):
    options = {"alternating_epochs": 0.25, "joint_epochs": 0.25, "reset_momentum": False}
    trainer = trainer_of(
        training_args(modulations={"reconboost": options}, max_steps=2, per_device_train_batch_size=12)
    )
    trainer.train()
    assert len(trainer.optimizer.state) == len(list(trainer.model.parameters()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"w1": 0.0}, "w1 must be a number in"),
        ({"w1": 2.0, "w2": 2.0}, "w2 must be a number in"),
        ({"agreement": -1.0}, "agreement must be a number in"),
        ({"alternating_epochs": 0}, "alternating_epochs must be a number in"),
        ({"joint_epochs": -1}, "joint_epochs must be a number in"),
        ({"reset_momentum": "yes"}, "reset_momentum must be one of"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        ReconBoost(**options)
