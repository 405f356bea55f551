from __future__ import annotations

import pytest
import torch
from tiny import hand_computed_case, tiny_dataset, tiny_model
from torch.nn.functional import cross_entropy

from hf_bml import MultimodalBalancedTrainer
from hf_bml.modulation import PMR, MicroBatch, Step
from hf_bml.modulation.pmr import class_sums, entropies, moved_prototypes, prototype_logits, rebalancing_weights
from hf_bml.testing import check

TWO = ("audio", "visual")
PROTOTYPES = {"audio": torch.eye(2), "visual": torch.tensor([[0.0, 0.0], [2.0, 0.0]])}
SCORES = torch.tensor([[1.608859, 0.725121], [2.0, 2.0]])


def batch_of(mask=None, features=None):
    logits, labels = hand_computed_case()
    features = features or {name: torch.eye(2, requires_grad=True) for name in TWO}
    return MicroBatch(logits, labels, mask, features)


def with_state(prototypes=PROTOTYPES, scores=SCORES, **options):
    pmr = PMR(**options)
    pmr.bind(TWO)
    pmr.load_state_dict({**pmr.state_dict(), "epoch": 0, "prototypes": dict(prototypes), "sums": {}, "scores": scores})
    return pmr


def loss_of(pmr, batch, step=None):
    return pmr.forward_losses(batch.features, batch, step or Step(TWO))


def test_the_hand_computed_case():
    """CE of T-A1's joint logits is 0.147301; with the prototype loss it becomes 1.239433."""
    pmr, batch, step = with_state(mu=0.0), batch_of(), Step(TWO)
    found = loss_of(pmr, batch, step)["pmr"]
    assert 0.147301 + found.item() == pytest.approx(1.239433, abs=2e-6)
    pmr.end_step(step)
    torch.testing.assert_close(pmr.state_dict()["scores"], SCORES, atol=1e-6, rtol=0)
    logs = {key: value.item() for key, value in pmr.logs().items()}
    expected = {
        "pmr/weight_audio": 0, "pmr/weight_visual": 1, "pmr/loss_audio": 0.217622, "pmr/loss_visual": 1.092132,
        "pmr/score_audio": 1.608859 / 2, "pmr/score_visual": 0.725121 / 2,
    }  # fmt: skip
    assert logs == pytest.approx(expected, abs=1e-6)


def test_entropies_count_in_the_first_epochs():
    each = [entropies(prototype_logits(torch.eye(2), PROTOTYPES[name])).mean().item() for name in TWO]
    assert each == pytest.approx([0.494200, 0.613230], abs=1e-6)
    early, late = (loss_of(with_state(alpha=0.0), batch_of(), Step(TWO, epoch=e))["pmr"].item() for e in (4.9, 5.0))
    assert (early, late) == (pytest.approx(-0.004942, abs=1e-6), 0)


def test_the_gradient_reaches_features_of_the_modality_behind_only_and_is_finite_at_a_prototype():
    batch = batch_of(features={name: p.clone().requires_grad_() for name, p in PROTOTYPES.items()})
    loss_of(with_state(mu=0.0), batch)["pmr"].backward()
    assert batch.features["visual"].grad.abs().sum() > 0 and batch.features["visual"].grad.isfinite().all()
    assert not batch.features["audio"].grad.any()


def test_weights():
    both = torch.tensor([True, True])
    assert (SCORES[0, 0] / SCORES[0, 1]).item() == pytest.approx(2.218746, abs=1e-5)
    behind, ahead = rebalancing_weights(SCORES[0], both)
    assert (behind.tolist(), ahead.tolist()) == ([0, 1], [1, 0])  # rho = 2.218746, clipped
    for scores in torch.rand(20, 2):
        rho = scores[0] / scores[1]
        behind, ahead = rebalancing_weights(scores, both)
        torch.testing.assert_close(behind, torch.stack([1 / rho - 1, rho - 1]).clamp(0, 1))
        assert torch.equal(ahead, behind.flip(0)) and behind.prod() == 0
    same = torch.tensor([0.3, 0.3 * (1 + 1e-7)])
    for form in ("ratio", "switch"):
        assert all(not each.any() for each in rebalancing_weights(same, both, form))
    three, seen = torch.tensor([0.6, 0.5, 0.0]), torch.tensor([True, True, False])
    assert rebalancing_weights(three, seen)[0].tolist() == pytest.approx([0, 0.2, 0])
    assert rebalancing_weights(three, seen, "switch")[0].tolist() == [0, 1, 0]
    three = rebalancing_weights(torch.tensor([0.6, 0.5, 0.4]), ~torch.zeros(3, dtype=torch.bool))
    assert [each.tolist() for each in three] == [pytest.approx([0, 0.2, 0.5]), pytest.approx([0.5, 0.25, 0])]


def test_prototypes_are_class_means_of_samples_that_have_the_modality():
    features = torch.tensor([[1.0, 0.0], [3.0, 2.0], [9.0, 9.0], [5.0, 5.0]])
    labels, present = torch.tensor([0, 0, 0, 2]), torch.tensor([True, True, False, True])
    sums = class_sums(features, labels, 4, present)
    assert sums.tolist() == [[4, 2, 2], [0, 0, 0], [5, 5, 1], [0, 0, 0]]
    first = moved_prototypes(None, sums, 0.2)
    assert first[0].tolist() == [2, 1] and first[1].isnan().all()
    sums = torch.tensor([[20.0, 10.0, 2.0], [8.0, 8.0, 1.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    second = moved_prototypes(first, sums, 0.2)
    assert second[0].tolist() == pytest.approx([0.2 * 2 + 0.8 * 10, 0.2 + 0.8 * 5])
    assert (second[1].tolist(), second[2].tolist()) == ([8, 8], [5, 5]) and second[3].isnan().all()
    by_segment = class_sums(features.view(2, 2, 2), torch.tensor([[0, -1], [2, 2]]), 3, torch.tensor([True, True]))
    assert by_segment.tolist() == [[1, 0, 1], [0, 0, 0], [14, 14, 2]]


def test_a_class_without_a_prototype_and_an_absent_modality_do_not_count():
    half = {"audio": PROTOTYPES["audio"], "visual": torch.tensor([[torch.nan, torch.nan], [2.0, 0.0]])}
    pmr, step = with_state(half, mu=0.0), Step(TWO)
    mask = torch.tensor([[True, True], [False, True]])
    found = loss_of(pmr, batch_of(mask), step)["pmr"]
    assert found.item() == pytest.approx(0)  # of class 0, without a prototype; class 1 is certain
    assert step.total("pmr")[1].tolist() == [1, 1]
    assert loss_of(with_state(scores=None), batch_of()) == {}  # before the first step has closed
    assert loss_of(with_state({}), batch_of()) == {}


@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_a_class_without_a_prototype_never_wins(scale):
    """However far the others are; the loss is that of the others alone, its smoothing is bounded."""
    nan = [torch.nan, torch.nan]
    features, labels = torch.tensor([[1.0, 0.5], [0.2, 1.0]], requires_grad=True), torch.tensor([0, 2])
    known = torch.tensor([[0.0, 0.0], [scale, 0.0]])
    logits = prototype_logits(features, torch.tensor([[0.0, 0.0], nan, [scale, 0.0]]))
    expected = prototype_logits(features, known)
    losses = [cross_entropy(each, y) for each, y in ((logits, labels), (expected, labels // 2))]
    assert torch.equal(*losses) and logits[:, 1].lt(expected.amin(1)).all()
    assert torch.equal(*(torch.autograd.grad(loss, features, retain_graph=True)[0] for loss in losses))
    assert torch.equal(entropies(logits), entropies(expected))
    if scale == 1:
        assert cross_entropy(logits, labels, label_smoothing=0.1) - losses[0] < 0.1 * 45 / 3
    assert not prototype_logits(features, torch.tensor([nan, nan])).any()


def test_the_temperature():
    logits = prototype_logits(torch.eye(2), PROTOTYPES["visual"], 0.5)
    torch.testing.assert_close(logits, -2 * torch.tensor([[1.0, 1.0], [1.0, 5**0.5]]))


def test_online_prototypes_are_the_means_of_the_last_epoch():
    pmr = PMR(prototypes="online")
    pmr.bind(TWO)
    pmr.attach(type("Run", (), {"face": tiny_model(num_labels=2)}))
    for epoch in (0.0, 0.5):
        step = Step(TWO, epoch=epoch)
        pmr.begin_step(step)
        assert loss_of(pmr, batch_of(), step) == {}
        pmr.end_step(step)
    pmr.begin_step(Step(TWO, epoch=1.0))
    assert pmr.state_dict()["prototypes"]["audio"].tolist() == [[1, 0], [0, 1]]
    assert not pmr.state_dict()["sums"]


@pytest.mark.parametrize("property", ["accumulation", "resuming", "missing modalities", "balance"])
def test_online(property):
    assert check(PMR, property, prototypes="online") is None


def test_equal_scores_leave_the_loss_as_it_is():
    found = loss_of(with_state(scores=torch.tensor([[1.2, 1.2], [2.0, 2.0]])), batch_of())
    assert found["pmr"].item() == 0


def test_prototypes_have_no_gradient():
    sums = class_sums(torch.eye(2, requires_grad=True), torch.tensor([0, 1]), 2)
    assert not sums.requires_grad and not moved_prototypes(None, sums, 0.2).requires_grad


def test_what_counts_in_epochs():
    assert PMR(prototypes="online").options_in_epochs == ["prototypes=online", "entropy_epochs=5"]
    assert PMR(mu=0, end=3).options_in_epochs == ["end=3", "prototypes=epoch"]
    with pytest.warns(UserWarning, match="pmr waits for 1 epochs, but the training ends at 1"):
        PMR(prototypes="online").warn_if_idle(dict.fromkeys(TWO), 1.0, 4)


def test_it_edits_no_gradients():
    assert not PMR().needs(TWO).gradients


def test_released():
    config = PMR(preset="released").config
    assert (config.weights, config.mu) == ("switch", 0)


def test_an_interaction_is_refused(training_args):
    model = tiny_model(interaction="cross_attention")
    with pytest.raises(ValueError, match=r"\['pmr'\] .* interaction 'cross_attention'"):
        MultimodalBalancedTrainer(model, training_args(modulations={"pmr": {}}), train_dataset=tiny_dataset())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": -1}, "alpha must be"),
        ({"alpha": float("inf")}, "alpha must be"),
        ({"mu": float("inf")}, "mu must be"),
        ({"mu": -1}, "mu must be"),
        ({"weights": "soft"}, "weights must be one of"),
        ({"prototypes": "batch"}, "prototypes must be one of"),
        ({"fraction": 0}, "fraction must be"),
        ({"momentum": 1}, "momentum must be"),
        ({"temperature": 0}, "temperature must be"),
        ({"entropy_epochs": -1}, "entropy_epochs must be"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        PMR(**options)
