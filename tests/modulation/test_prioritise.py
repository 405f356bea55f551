from __future__ import annotations

import copy
import itertools

import pytest
import torch
from tiny_images import tiny_image_dataset, tiny_image_model
from torch import nn

from hf_bml import MultimodalBalancedTrainer
from hf_bml.modulation import Gradients, Prioritise, Step
from hf_bml.modulation.prioritise import frozen_modalities, trained_modalities

NAMES = ("audio", "visual", "text")


def groups():
    """A convolution, a matrix and a bias per modality, each with a gradient of ones."""
    found = {}
    for name in NAMES:
        found[name] = [nn.Parameter(torch.zeros(shape)) for shape in ((2, 1, 3, 3), (4, 3), (4,))]
        for parameter in found[name]:
            parameter.grad = torch.ones_like(parameter)
    return found


def modulated(method, before, now, step, observed=None):
    """The gradients after a step of 100, by modality, from the scores of the step before and of the step itself."""
    scores = [None if each is None else torch.tensor(each) for each in (before, now)]
    parameters = groups()
    method.bind(NAMES)
    state = Step(NAMES, step=step, max_steps=100, scores=scores[0], observed=observed)
    method.begin_step(state)
    state.scores = scores[1]
    method.modulate_gradients(Gradients(parameters), state)
    return {name: [p.grad for p in own] for name, own in parameters.items()}


def frozen(gradients):
    return [name for name, own in gradients.items() if all(each is None for each in own)]


def test_stages_are_equal_and_end_with_the_share():
    counts = [trained_modalities(step, 90, 1 / 3, 4) for step in range(90)]
    assert counts == [1] * 10 + [2] * 10 + [3] * 10 + [4] * 60
    assert trained_modalities(0, 10, 0.0, 3) == 3
    assert [trained_modalities(step, 10, 1.0, 2) for step in (0, 9)] == [1, 1]
    assert trained_modalities(0, 10, 0.5, 1) == 1


def test_the_better_ones_are_frozen_and_ties_are_not():
    every = torch.ones(3, dtype=torch.bool)
    assert frozen_modalities(torch.tensor([0.5, 0.9, 0.7]), every, 1).tolist() == [False, True, True]
    assert frozen_modalities(torch.tensor([0.5, 0.9, 0.7]), every, 2).tolist() == [False, True, False]
    assert not frozen_modalities(torch.tensor([0.7, 0.7, 0.7 + 1e-7]), every, 1).any()  # equal but for rounding
    assert frozen_modalities(torch.tensor([0.7, 0.7, 0.5]), every, 2).tolist() == [False, False, False]
    seen = torch.tensor([False, True, True])
    assert frozen_modalities(torch.tensor([0.0, 0.9, 0.7]), seen, 1).tolist() == [False, True, False]


def test_an_encoder_is_frozen_by_the_step_before():
    assert not frozen(modulated(Prioritise(), None, (1.0, 2.0, 3.0), 0))
    assert frozen(modulated(Prioritise(), (3.0, 2.0, 1.0), (1.0, 2.0, 3.0), 1)) == ["audio", "visual"]
    assert frozen(modulated(Prioritise(), (3.0, 2.0, 1.0), (1.0, 2.0, 3.0), 25)) == ["audio"]
    assert not frozen(modulated(Prioritise(), (3.0, 2.0, 1.0), (1.0, 2.0, 3.0), 50))
    seen = torch.tensor([True, False, True])
    assert frozen(modulated(Prioritise(), (3.0, 0.0, 1.0), (1.0, 2.0, 3.0), 1, seen)) == ["audio"]


def test_released_zeroes_gradients_of_convolutions_by_the_step_itself():
    found = modulated(Prioritise(preset="released"), None, (1.0, 2.0, 3.0), 0)
    assert all(torch.equal(each, torch.ones_like(each)) for each in found["audio"])
    for name in ("visual", "text"):
        convolution, *others = found[name]
        assert not convolution.any()
        assert all(torch.equal(each, torch.ones_like(each)) for each in others)


def test_matrices_alone():
    found = modulated(Prioritise(parameters="matrix"), (3.0, 2.0, 1.0), (3.0, 2.0, 1.0), 1)
    assert [each is None for each in found["audio"]] == [True, True, False]


def test_what_is_logged():
    method = Prioritise()
    modulated(method, (3.0, 2.0, 1.0), (3.0, 2.0, 1.0), 1)
    method.means.add({"prioritise/frozen": torch.zeros(3)})
    assert {key: value.item() for key, value in method.logs().items()} == {
        "prioritise/frozen_audio": 0.5,
        "prioritise/frozen_visual": 0.5,
        "prioritise/frozen_text": 0.0,
    }


def test_a_frozen_encoder_stays_bit_for_bit_with_momentum_and_weight_decay(training_args):
    args = training_args(modulations={"prioritise": {}}, max_steps=8, weight_decay=0.1)
    trainer = MultimodalBalancedTrainer(tiny_image_model(), args, train_dataset=tiny_image_dataset())
    weights, step = [], trainer.training_step

    def recorded(*arguments, **options):
        weights.append({name: copy.deepcopy(list(own.parameters())) for name, own in trainer.model.encoders.items()})
        return step(*arguments, **options)

    trainer.training_step = recorded
    trainer.train()
    still = [
        sum(all(map(torch.equal, before[name], after[name])) for name in before)
        for before, after in itertools.pairwise(weights)
    ]
    assert still == [0, 1, 1, 1, 0, 0, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": 1.5}, "share must be a number in"),
        ({"freeze": "head"}, "freeze must be one of"),
        ({"parameters": "bias"}, "parameters must be one of"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        Prioritise(**options)
