from __future__ import annotations

import copy
import itertools
from types import SimpleNamespace

import pytest
import torch
from tiny_images import tiny_image_dataset, tiny_image_model
from torch import nn

from hf_bml import MultimodalBalancedTrainer
from hf_bml.modulation import MLA, Gradients, MicroBatch, Step
from hf_bml.modulation.mla import released_projection, updated_projection

R = torch.tensor([1.0, 2.0])
SHARED = {"fusion": "shared", "shared_prediction": "entropy"}


def trainer_of(args, modalities=("audio", "visual"), **options):
    model = tiny_image_model(modalities, **{**SHARED, **options})
    return MultimodalBalancedTrainer(model, args, train_dataset=tiny_image_dataset(modalities))


def test_the_projection_of_the_worked_example():
    projection = updated_projection(torch.eye(2), R, 0.1)
    torch.testing.assert_close(
        projection, torch.tensor([[0.803922, -0.392157], [-0.392157, 0.215686]]), atol=1e-6, rtol=0
    )
    gradients = torch.tensor([[1.0, 2.0], [2.0, -1.0]])  # along r, and across it
    torch.testing.assert_close(
        gradients @ projection.T, torch.tensor([[0.019608, 0.039216], [2.0, -1.0]]), atol=1e-6, rtol=0
    )


def test_the_projection_stays_symmetric_and_positive_and_loses_what_was_used():
    generator = torch.Generator().manual_seed(0)
    projection = torch.eye(6)
    for _ in range(20):
        r = torch.randn(6, generator=generator)
        projection = updated_projection(projection, r, 1e-4)
        assert torch.equal(projection, projection.T)
        assert torch.linalg.eigvalsh(projection).min() > -1e-4
        assert (projection @ r).norm() < 1e-2 * r.norm()


def test_the_projection_of_the_released_code():
    projection = released_projection(torch.eye(2), R, 0.1)
    entries = torch.tensor([[0.0909091, -0.952381], [-0.952381, 0.0243902]])
    torch.testing.assert_close(projection, entries / entries.norm(), atol=1e-6, rtol=0)
    assert MLA(preset="released").config.projection == "released"


class Head(nn.Module):
    """Two features, two classes; gradients of ones."""

    def __init__(self):
        super().__init__()
        self.classifier = nn.Sequential(nn.Linear(2, 2))
        self.projections = nn.ModuleDict({"visual": nn.Linear(3, 2, bias=False)})
        for parameter in self.parameters():
            parameter.grad = torch.ones_like(parameter)


def turn(method, number, feature, epoch=0.0):
    """Gradients of classifier, visual's projection and both encoders after one turn, on one sample's feature."""
    encoders = {name: [nn.Parameter(torch.ones(3))] for name in ("audio", "visual")}
    for [parameter] in encoders.values():
        parameter.grad = torch.ones(3)
    method._head = Head()
    step = Step(("audio", "visual"), turn=number, epoch=epoch)
    step.add("mla/feature", torch.cat([feature, torch.ones(1)]))
    method.modulate_gradients(Gradients(encoders), step)
    grads = [own[0].grad is not None for own in encoders.values()]
    return method._head.classifier[-1].weight.grad, method._head.projections["visual"].weight.grad is not None, grads


def test_turns_and_the_order_of_projecting_and_updating():
    method = MLA()
    weight, projection, encoders = turn(method, 0, R)
    assert torch.equal(weight, torch.ones(2, 2)) and not projection and encoders == [True, False]
    expected = updated_projection(torch.eye(2), R, 0.1)
    torch.testing.assert_close(method.state_dict()["projection"], expected)
    weight, projection, encoders = turn(method, 1, torch.zeros(2))
    torch.testing.assert_close(weight, torch.ones(2, 2) @ expected.T)
    assert projection and encoders == [False, True]
    torch.testing.assert_close(method.state_dict()["projection"], expected)  # a mean feature of 0 leaves it
    free = MLA(projection="none")
    turn(free, 0, R)
    assert free.state_dict()["projection"] is None


def test_the_released_order_updates_first_and_leaves_the_first_turn_out():
    method = MLA(preset="released")
    weight, _, encoders = turn(method, 0, R)
    assert torch.equal(weight, torch.ones(2, 2)) and encoders == [True, False]
    resumed = MLA(preset="released")
    resumed.load_state_dict(method.state_dict())
    weight, *_ = turn(resumed, 1, R)
    expected = released_projection(torch.eye(2), R, 0.1)
    torch.testing.assert_close(resumed.state_dict()["projection"], expected)
    torch.testing.assert_close(weight, torch.ones(2, 2) @ expected.T)
    weight, *_ = turn(resumed, 0, torch.tensor([3.0, -1.0]))
    expected = released_projection(expected, torch.tensor([3.0, -1.0]), 0.1)
    torch.testing.assert_close(weight, torch.ones(2, 2) @ expected.T)


def test_a_falls_within_an_epoch():
    method = MLA()
    turn(method, 0, R, epoch=3.5)
    expected = updated_projection(torch.eye(2), R, 0.1**1.5)
    torch.testing.assert_close(method.state_dict()["projection"], expected)


def test_the_mean_feature_is_that_of_the_samples_that_have_the_modality():
    """Over both micro-batches; features of absent samples are zero."""
    method = MLA()
    method._head = Head()
    step = Step(("audio", "visual"))
    for feature, mask in (([[1.0, 0], [0, 0]], [[1, 1], [0, 1]]), ([[2.0, 3], [0, 3]], [[1, 0], [1, 1]])):
        features = {"audio": torch.tensor(feature), "visual": torch.ones(2, 3)}
        view = SimpleNamespace(head_graph=lambda: {"audio": torch.zeros(2, 2)})
        batch = MicroBatch({}, torch.tensor([0, 1]), torch.tensor(mask).bool(), features, view=view)
        method.forward_losses({}, batch, step)
    method.modulate_gradients(Gradients({"audio": [], "visual": []}), step)
    expected = updated_projection(torch.eye(2), torch.tensor([1.0, 2.0]), 0.1)
    torch.testing.assert_close(method.state_dict()["projection"], expected)


def test_each_turn_moves_its_encoder_and_the_classifier_alone(training_args):
    modalities = ("audio", "visual", "text")
    args = training_args(modulations={"mla": {}}, max_steps=7, weight_decay=0.1)
    trainer = trainer_of(args, modalities)
    parts = {**trainer.model.encoders, "head": trainer.model.head}
    weights, step = [], trainer.training_step

    def recorded(*arguments, **options):
        weights.append({name: copy.deepcopy(list(part.parameters())) for name, part in parts.items()})
        return step(*arguments, **options)

    trainer.training_step = recorded
    trainer.train()
    for number, (before, after) in enumerate(itertools.pairwise(weights)):
        moved = {name for name in parts if not all(map(torch.equal, before[name], after[name]))}
        assert moved == {modalities[number % 3], "head"}
    logs = {key for entry in trainer.state.log_history for key in entry if key.startswith("mla/")}
    assert logs == {f"mla/loss_{name}" for name in modalities}


def test_one_modality_is_plain_training(training_args):
    def trained(modulations):
        trainer = trainer_of(training_args(modulations=modulations), ("audio",))
        trainer.train()
        return trainer.model.state_dict()

    with pytest.warns(UserWarning, match="mla balances several modalities"):
        own = trained({"mla": {}})
    assert all(torch.equal(value, own[name]) for name, value in trained({}).items())


@pytest.mark.parametrize("options", [{"fusion": "concat"}, {"head_hidden_sizes": [4]}])
def test_other_heads_are_refused(training_args, options):
    with pytest.raises(
        ValueError,
        match="one linear classifier for all modalities, found a MultimodalForClassification",
    ):
        trainer_of(training_args(modulations={"mla": {}}), **options)


def test_wrong_options():
    with pytest.raises(ValueError, match="projection must be one of"):
        MLA(projection="orthogonal")
