from __future__ import annotations

from functools import partial

import pytest
import torch
from tiny import hand_computed_batch, hand_computed_case
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from hf_bml.ground.task import CLASSIFICATION
from hf_bml.modulation import MBSD, MicroBatch, Step
from hf_bml.modulation.mbsd import distances_and_divergences, released_distances_and_divergences
from hf_bml.testing import PROPERTIES, TWO_PROCESSES, check

close = partial(assert_close, atol=1e-6, rtol=0)
RIGHT = torch.tensor([True, True])


def scores_of(logits, labels):
    return tuple(CLASSIFICATION.score(own, labels) for own in logits.values())


def test_terms_by_hand():
    """T-N5: w = (0.3, 0.3), distances (1.605201, 0.960906), KL (0.226289, 0.192745)."""
    logits, labels = hand_computed_case()
    distances, divergences = distances_and_divergences(*logits.values(), scores_of(logits, labels), RIGHT)
    close(distances, 0.3 * torch.tensor([1.605201, 0.960906]))
    close(divergences, 0.3 * torch.tensor([0.226289, 0.192745]))
    close(distances.mean(), torch.tensor(0.384916))
    close(divergences.mean(), torch.tensor(0.062855))
    swapped = dict(reversed(logits.items()))
    again = distances_and_divergences(*swapped.values(), scores_of(swapped, labels), RIGHT)
    assert torch.equal(torch.stack(again), torch.stack([distances, divergences]))


def test_the_released_divergence_by_hand():
    """0.6 (ln 0.6 - 0.9) = -0.846495 of the first sample, 0.5 (ln 0.5 - 0.8) of the second; in float32."""
    logits, labels = hand_computed_case()
    leaves = [own.clone().requires_grad_() for own in logits.values()]
    distances, divergences = released_distances_and_divergences(*leaves, labels, RIGHT)
    close(distances.detach(), 0.3 * torch.tensor([1.605201, 0.960906]))
    close(divergences.detach(), 0.3 * torch.tensor([-0.846495, -0.746574]))
    divergences.sum().backward()
    assert all(leaf.grad.any() for leaf in leaves)


def test_only_the_weak_modality_learns_from_the_divergence():
    logits, labels = hand_computed_case()
    strong, weak = (own.clone().requires_grad_() for own in logits.values())
    _, divergences = distances_and_divergences(strong, weak, scores_of(logits, labels), RIGHT)
    divergences.sum().backward()
    assert strong.grad is None or not strong.grad.any()
    close(weak.grad, 0.3 * (weak.softmax(-1) - strong.softmax(-1)).detach())


def losses(batch, **options):
    method = MBSD(**options)
    names = tuple(batch.unimodal_logits)
    method.bind(names)
    return method.forward_losses(batch.features, batch, Step(names)), method.logs()


def test_the_losses_of_a_batch_by_hand():
    found, logs = losses(hand_computed_batch()[2])
    assert list(found) == ["audio", "visual", "mbsd"]
    close(found["audio"].detach(), torch.tensor(0.164252))
    close(found["visual"].detach(), torch.tensor(0.601986))
    close(found["mbsd"].detach(), torch.tensor(0.384916 + 0.062855))
    close(logs["mbsd/distance"], torch.tensor(0.384916))
    half, _ = losses(hand_computed_batch()[2], weight=0.5, distance=2.0, distillation=3.0)
    close(half["mbsd"].detach(), torch.tensor(2 * 0.384916 + 3 * 0.062855))
    close(half["audio"].detach(), torch.tensor(0.164252 / 2))


def test_pairs_count_where_both_are_present():
    mask = torch.tensor([[True, True], [True, False]])
    found, _ = losses(hand_computed_batch(mask)[2])
    close(found["mbsd"].detach(), torch.tensor(0.3 * (1.605201 + 0.226289)))
    mask = torch.tensor([[True, False], [False, True]])
    found, _ = losses(hand_computed_batch(mask)[2])
    assert found["mbsd"].item() == 0


def test_what_has_no_label_does_not_count():
    logits, labels = hand_computed_case()
    further = {name: torch.cat([own, torch.randn(3, 2)]) for name, own in logits.items()}
    found, _ = losses(batch_of(further, torch.cat([labels, torch.full((3,), -100)])))
    close(found["mbsd"], torch.tensor(0.384916 + 0.062855))
    segments = {name: own.view(1, 5, 2) for name, own in further.items()}
    found, _ = losses(batch_of(segments, torch.tensor([[0, 1, -100, -100, -100]])))
    close(found["mbsd"], torch.tensor(0.384916 + 0.062855))


class View:
    """Of the logits given."""

    def __init__(self, logits):
        self.logits = logits

    def head_graph(self):
        return self.logits


def batch_of(logits, labels):
    return MicroBatch(logits, labels, view=View(logits))


@pytest.mark.parametrize("form", ["paper", "released"])
def test_nothing_is_added_where_modalities_agree_or_none_is_right(form):
    logits, labels = hand_computed_case()
    alike = dict.fromkeys(logits, logits["audio"])
    wrong = {"audio": torch.tensor([[0.0, 2.0], [1.0, 0.0]]), "visual": torch.tensor([[0.0, 1.0], [3.0, 0.0]])}
    for each in (alike, wrong):
        found, _ = losses(batch_of(each, labels), form=form)
        assert found["mbsd"].item() == 0
        close(found["visual"], cross_entropy(each["visual"], labels))


def test_three_modalities_are_the_mean_of_their_pairs_in_any_order():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (6,), generator=generator)
    logits = {name: torch.randn(6, 3, generator=generator) for name in ("audio", "visual", "text")}
    found, _ = losses(batch_of(logits, labels))
    pairs = [(first, second) for first in logits for second in logits if first < second]
    parts = [losses(batch_of({n: logits[n] for n in pair}, labels))[0]["mbsd"] for pair in pairs]
    close(found["mbsd"], torch.stack(parts).mean())
    turned, _ = losses(batch_of(dict(reversed(logits.items())), labels))
    close(found["mbsd"], turned["mbsd"])


@pytest.mark.parametrize("property", [each for each in PROPERTIES if each not in TWO_PROCESSES])
def test_the_released_preset_has_the_properties(property):
    refused = check(MBSD, property, preset="released")
    one_class = ("1 to 4 modalities", "questions", "several labels", "regression", "language model")
    assert (refused is not None) == (property in one_class), refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": 0}, "weight must be a number"),
        ({"distance": -1}, "distance must be a number"),
        ({"distillation": float("inf")}, "distillation must be a number"),
        ({"form": "other"}, "form must be one of"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        MBSD(**options)
