"""Dropout, annealed dropout and curriculum dropout."""

from __future__ import annotations

import math

import pytest
import torch
from test_opm import batch_of

from hf_bml.modulation import AnnealedDropout, CurriculumDropout, Dropout, Step
from hf_bml.modulation.dropout import annealed_probability, curriculum_probability, inverted_dropout

SCHEDULED = (Dropout, AnnealedDropout, CurriculumDropout)


def started(modulation, step=0, max_steps=100, **state):
    modulation.bind(("audio", "visual"))
    return modulation, Step(("audio", "visual"), step=step, max_steps=max_steps, **state)


def test_inverted_dropout_by_hand():
    features, uniform = torch.tensor([1.0, 2, 3, 4]), torch.tensor([0.1, 0.2, 0.5, 0.19])
    assert inverted_dropout(features, 0.2, uniform).tolist() == [0, 2.5, 3.75, 0]
    assert torch.equal(inverted_dropout(features, 0.0, torch.zeros(4)), features)


def test_annealing():
    """T-D5."""
    assert [annealed_probability(t, 100, 0.5) for t in (0, 25, 50, 100, 150)] == [0.5, 0.375, 0.25, 0, 0]


def test_curriculum():
    """T-D6, retain probabilities."""
    retain = [1 - curriculum_probability(t, 10 / 1000, 0.5) for t in (0, 100, 500, 1000)]
    assert retain == pytest.approx([1, 0.683940, 0.503369, 0.500023], abs=1e-6)


@pytest.mark.parametrize(
    ("modulation", "expected"),
    [
        (Dropout(p=0.3), [0.3, 0.3, 0.3]),
        (AnnealedDropout(), [0.5, 0.375, 0]),
        (AnnealedDropout(p=0.8, annealing_steps=50), [0.8, 0.4, 0]),
        (CurriculumDropout(), [0, 0.5 * (1 - math.exp(-2.5)), 0.5 * (1 - math.exp(-10))]),
        (CurriculumDropout(p=0.4, gamma=0.1), [0, 0.4 * (1 - math.exp(-2.5)), 0.4 * (1 - math.exp(-10))]),
    ],
)
def test_schedules_over_the_training(modulation, expected):
    states = [Step(("audio",), step=step, max_steps=100) for step in (0, 25, 100)]
    assert [modulation.probability(state) for state in states] == pytest.approx(expected)


@pytest.mark.parametrize("kind", SCHEDULED)
def test_share_of_dropped_units_expectation_and_log(kind):
    dropout, step = started(kind(), step=25)
    p = dropout.probability(step)
    features = {"audio": torch.ones(400, 10), "visual": torch.full((400, 30), 2.0)}
    out = dropout.modulate_features(features, batch_of(400), None, step)
    for name, feature in features.items():
        assert (out[name] == 0).float().mean().item() == pytest.approx(p, abs=0.03)
        assert out[name].mean().item() == pytest.approx(feature.mean().item(), abs=0.06)
    dropped = (out["audio"] == 0).float()
    assert torch.corrcoef(dropped.T)[0, 1].item() == pytest.approx(0, abs=0.15)  # units are independent
    assert dropout.logs()[f"{dropout.name}/probability"].item() == pytest.approx(p)


@pytest.mark.parametrize("kind", SCHEDULED)
def test_draws_depend_on_step_and_rank_and_go_on_over_micro_batches(kind):
    features = {"audio": torch.ones(8, 5), "visual": torch.ones(8, 7)}

    def dropped(parts=1, **state):
        dropout, step = started(kind(), **{"step": 25, **state})
        rows = torch.arange(8).chunk(parts)
        outs = [
            dropout.modulate_features({m: f[row] for m, f in features.items()}, batch_of(len(row)), None, step)
            for row in rows
        ]
        return torch.cat([torch.cat(list(out.values()), 1) for out in outs])

    assert torch.equal(dropped(), dropped(parts=2))
    assert not torch.equal(dropped(), dropped(rank=1))
    assert not torch.equal(dropped() == 0, dropped(step=26) == 0)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (Dropout, {"p": 1}, r"p must be a number in \[0, 1\), found 1"),
        (AnnealedDropout, {"annealing_steps": 0}, "annealing_steps must be a whole number of at least 1, found 0"),
        (CurriculumDropout, {"gamma": 0}, "gamma"),
        (CurriculumDropout, {"p": -0.1}, "p must be"),
    ],
)
def test_bad_options(kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind(**options)
