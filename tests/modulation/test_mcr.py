from __future__ import annotations

import math

import pytest
import torch
from tiny import hand_computed_case, tiny_model

from hf_bml.modulation import MCR, MicroBatch, ModulationStack, MultiLoss, Step
from hf_bml.modulation.divergence import jensen_shannon
from hf_bml.modulation.mcr import cycle
from hf_bml.testing import check

TWO = ("audio", "visual")
LABELS = torch.tensor([0, 2, 1, 1])
INPUTS = {"audio": torch.arange(20.0).view(4, 5).sin(), "visual": torch.arange(28.0).view(4, 7).cos()}


class LinearHead:
    """T-A1's head, W^1 = diag(ln 9, ln 4) and W^2 = diag(ln 1.5, 0), or one of equal weights."""

    def __init__(self, weights=None):
        self.weights = weights or hand_computed_case()[0]

    def fuse(self, features, keep, detached):
        return sum(features[name] @ weight for name, weight in self.weights.items())


def batch_of(features, view=None, mask=None):
    logits, labels = hand_computed_case()
    return MicroBatch(logits, labels, mask, features, view=view or LinearHead())


def divergence_of(features, game="greedy", weight=1.0, mask=None):
    mcr, batch = MCR(weight=weight, unimodal_weight=0.0, game=game), batch_of(features, mask=mask)
    mcr.bind(tuple(features))
    [loss] = mcr.forward_losses(features, batch, Step(tuple(features))).values()
    return loss, mcr.logs()


def test_the_hand_computed_case():
    """Two samples, so the cycle swaps them: JS^1 = (0.253788, 0.275396) and JS^2 = (0.001565, 0.003674)."""
    loss, logs = divergence_of({name: torch.eye(2) for name in TWO}, weight=2.0)
    assert loss.item() == pytest.approx(-2 * (0.264592 + 0.002620), abs=2e-6)
    assert logs["mcr/divergence_audio"].item() == pytest.approx((0.253788 + 0.275396) / 2, abs=1e-6)
    assert logs["mcr/divergence_visual"].item() == pytest.approx((0.001565 + 0.003674) / 2, abs=1e-6)


@pytest.mark.parametrize(("game", "k"), [("greedy", -1), ("independent", 0), ("collaborative", 1)])
def test_the_others_get_k_times_the_gradient_of_a_term(game, k):
    def features():
        return {name: torch.eye(2, requires_grad=True) for name in TWO}

    played, plain = features(), features()
    divergence_of(played, game)[0].backward()
    view, swapped = LinearHead(), torch.tensor([1, 0])
    terms = []
    for name in TWO:
        other = {**plain, name: plain[name][swapped]}
        terms.append(-jensen_shannon(view.fuse(plain, None, False), view.fuse(other, None, False)).mean())
    for index, name in enumerate(TWO):
        mine, theirs = (torch.autograd.grad(terms[i], plain[name], retain_graph=True)[0] for i in (index, 1 - index))
        torch.testing.assert_close(played[name].grad, mine + k * theirs)


def test_equal_features_do_not_diverge():
    loss, _ = divergence_of({name: torch.ones(2, 2) for name in TWO})
    assert loss.item() == pytest.approx(0, abs=1e-7)
    loss, _ = divergence_of({name: 1e3 * torch.eye(2) for name in TWO})
    assert loss.item() >= -2 * math.log(2) - 1e-6


def test_a_cycle_moves_every_present_sample_and_no_other():
    generator = torch.Generator().manual_seed(0)
    for size in range(2, 9):
        for _ in range(20):
            present = torch.rand(size, generator=generator) < 0.7
            partners = cycle(torch.rand(size, generator=generator), present)
            assert torch.equal(partners.sort().values, torch.arange(size))
            moved = partners != torch.arange(size)
            assert torch.equal(moved, present if present.sum() > 1 else torch.zeros_like(present))
            assert present[partners[present]].all()
            everyone = cycle(torch.rand(size, generator=generator))
            assert (everyone != torch.arange(size)).all() and len(everyone.unique()) == size
    assert cycle(torch.tensor([0.5])).tolist() == [0]


def test_samples_that_lack_the_modality_do_not_count():
    """Audio is left in one sample, which has nobody to exchange it with."""
    mask = torch.tensor([[True, True], [False, True]])
    _, logs = divergence_of({name: torch.eye(2) for name in TWO}, mask=mask)
    assert logs["mcr/divergence_audio"].item() == pytest.approx(0, abs=1e-7)
    assert logs["mcr/divergence_visual"].item() > 1e-3


@pytest.mark.parametrize("has_audio", [[True, False], [False, False]])
def test_gradients_are_finite_where_one_sample_or_none_has_a_modality(has_audio):
    features = {name: torch.eye(2, requires_grad=True) for name in TWO}
    loss, _ = divergence_of(features, mask=torch.tensor([[audio, True] for audio in has_audio]))
    loss.backward()
    assert all(feature.grad.isfinite().all() for feature in features.values())


def losses_of(model, method):
    names = tuple(model.encoders)
    stack = ModulationStack([method], names)
    stack.begin_step(Step(names))
    stack.begin_micro_batch(MicroBatch({}, LABELS))
    output = model.train()(**{name: INPUTS[name] for name in names}, labels=LABELS, modulation=stack)
    return stack.modulate_losses(dict(output.losses), output)


@pytest.mark.parametrize("options", [{}, {"auxiliary_loss_weight": 0.0}])
def test_the_modalities_own_losses(options):
    model = tiny_model(**options)
    own = {name: losses_of(model, MCR(unimodal_weight=0.5))[name] for name in TWO}
    expected = losses_of(model, MultiLoss(heads="own" if options else "split", weight=0.5))
    for name in TWO:
        torch.testing.assert_close(own[name], expected[name])


def test_classifiers_of_single_modalities_that_the_model_trains_count_once():
    model = tiny_model(auxiliary_loss_weight=1.0)
    assert list(losses_of(model, MCR())) == ["joint", *TWO, "mcr"]
    assert list(losses_of(model, MCR(unimodal_weight=0.0))) == ["joint", "auxiliary", "mcr"]


def test_one_modality_has_its_own_loss_and_no_game():
    assert list(losses_of(tiny_model(("audio",)), MCR())) == ["joint", "audio"]


def test_the_draws_differ_between_steps_and_ranks_and_repeat():
    def draws(**where):
        features = {name: torch.randn(16, 2, generator=torch.Generator().manual_seed(3)) for name in TWO}
        mcr = MCR(unimodal_weight=0.0)
        mcr.bind(TWO)
        batch = batch_of(features)
        batch.labels = torch.zeros(16, dtype=torch.long)
        return mcr.forward_losses(features, batch, Step(TWO, **where))["mcr"].item()

    assert draws(step=1) == draws(step=1)
    assert len({draws(step=1), draws(step=2), draws(step=1, rank=1), draws(step=1, seed=7)}) == 4


@pytest.mark.parametrize("property", ["resuming", "missing modalities", "1 to 4 modalities"])
def test_collaborative_in_training(property):
    assert check(MCR, property, game="collaborative", weight=0.1) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": -1}, "weight must be"),
        ({"unimodal_weight": -1}, "unimodal_weight must be"),
        ({"game": "zero_sum"}, "game must be one of"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        MCR(**options)
