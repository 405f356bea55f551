from __future__ import annotations

import pytest
import torch
from refused_methods import REFUSED
from tiny import tiny_dataset, tiny_model
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from hf_bml import MultimodalBalancedTrainer
from hf_bml.modulation import CML, MicroBatch, ModDrop, ModulationStack, Step
from hf_bml.modulation.cml import confidences, kept_after
from hf_bml.testing import PROPERTIES, TWO_PROCESSES, check
from hf_bml.training.losses import named_losses

SIZES = {"audio": 5, "visual": 7, "text": 3}
LABELS = torch.tensor([0, 2, 1, 1])


def test_confidences_by_hand():
    """T-N4: u^1 = (2, 0), u^2 = (-1, 0)."""
    first, second = torch.tensor([[2.0, 0.0]]), torch.tensor([[-1.0, 0.0]])
    both, only_first, only_second = (confidences(u).item() for u in (first + second, first, second))
    assert (both, only_first, only_second) == pytest.approx((0.731059, 0.880797, 0.731059), abs=1e-6)
    assert max(0, only_first - both) == pytest.approx(0.149738, abs=1e-6)
    assert max(0, only_second - both) == pytest.approx(0, abs=1e-6)
    assert_close(confidences(first + 100.0), confidences(first))
    assert_close(confidences(torch.stack([first, second], 1)), torch.tensor([[0.880797, 0.731059]]))


@pytest.mark.parametrize(("fewer", "rise"), [([2.0, 0.0], 0.149738), ([-1.0, 0.0], 0.0), ([0.5, 0.0], 0.0)])
def test_the_hinge_of_the_loss(fewer, rise):
    """T-N4; without a violation the loss is the mean cross-entropy, exactly."""
    joint, fewer, label = torch.tensor([[1.0, 0.0]]), torch.tensor([fewer]), torch.tensor([0])
    batch = MicroBatch({}, label, output={"logits": joint}, scratch={"cml": [(fewer, torch.tensor([True]))]})
    losses = {"joint": cross_entropy(joint, label), "cml_1": cross_entropy(fewer, label) / 2}
    method = CML(weight=1.0)
    method.bind(("audio", "visual"))
    found = method.modulate_losses(losses, batch, Step(("audio", "visual")))
    assert found["cml"].item() == (pytest.approx(rise, abs=1e-6) if rise else 0)
    mean = (losses["joint"] + 2 * losses["cml_1"]) / 2
    assert sum(found.values()) >= mean and (rise or sum(found.values()) == mean)


def test_modalities_are_removed_in_the_order_and_only_those_that_a_sample_has():
    present = torch.tensor([[True, True, True], [True, False, True], [False, True, False]])
    order = [2, 0, 1]
    once, twice = kept_after(1, order, present), kept_after(2, order, present)
    assert once.tolist() == [[True, True, False], [True, False, False], [False, False, False]]
    assert twice.tolist() == [[False, True, False], [False, False, False], [False, False, False]]
    assert kept_after(0, order, present).tolist() == present.tolist()


def losses_of(method, names, modality_mask=None, others=(), **options):
    """What a step minimises, the logs, and logits `f(S)` for any keep mask."""
    torch.manual_seed(1)
    model = tiny_model(names, **options)
    inputs = {name: 3 * torch.randn(4, SIZES[name]) for name in names}
    stack = ModulationStack([method, *others], names)
    stack.begin_step(Step(names))
    stack.begin_micro_batch(MicroBatch({}, LABELS))
    output = model.train()(**inputs, labels=LABELS, modality_mask=modality_mask, modulation=stack)
    found = stack.modulate_losses(named_losses(output.loss, output), output)
    return found, stack.logs(), lambda kept: model(**inputs, modality_mask=kept).logits, output


def test_the_losses_and_rises_of_three_modalities():
    names = ("audio", "visual", "text")
    method = CML(weight=2.0)
    found, logs, predict, output = losses_of(method, names)
    order = method._order
    assert sorted(order) == [0, 1, 2]
    assert list(found) == ["joint", "cml_1", "cml_2", "cml"]
    rise, before, present = 0.0, output.logits, torch.ones(4, 3, dtype=torch.bool)
    assert_close(found["joint"], cross_entropy(before, LABELS) / 3)
    for removed in (1, 2):
        present[:, order[removed - 1]] = False
        logits = predict(present)
        assert_close(found[f"cml_{removed}"], cross_entropy(logits, LABELS) / 3)
        rise = rise + (confidences(logits) - confidences(before)).clamp_min(0).mean()
        before = logits
    assert rise > 0
    assert_close(found["cml"], 2 * rise)
    assert_close(logs["cml/rise"], rise.detach())


def test_a_sample_with_one_modality_is_in_the_first_loss_alone():
    mask = torch.tensor([[True, True], [True, True], [True, False], [False, True]])
    method = CML()
    found, _, predict, output = losses_of(method, ("audio", "visual"), mask)
    kept = mask.clone()
    kept[:, method._order[0]] = False
    logits = predict(kept)
    assert_close(found["joint"], cross_entropy(output.logits, LABELS) / 2)
    assert_close(found["cml_1"], cross_entropy(logits[:2], LABELS[:2]) / 2)
    rises = (confidences(logits) - confidences(output.logits))[:2].clamp_min(0)
    assert_close(found["cml"], 0.1 * rises.mean())


def test_what_is_dropped_is_not_there_to_be_removed():
    found, logs, *_ = losses_of(CML(), ("audio", "visual"), others=[ModDrop(p={"audio": 1.0})])
    assert found["cml_1"].item() == 0 and logs["cml/rise"].item() == 0


def test_sums_over_a_batch_may_cancel():
    batch = MicroBatch({}, LABELS, weight=0.5)
    differences, counts = torch.tensor([0.4, -0.3, 0.2, 9.0]), torch.tensor([True, True, True, False])
    assert CML()._rise(differences, counts, batch).item() == pytest.approx(0.5 * 0.2)
    assert CML(preset="released")._rise(differences, counts, batch).item() == pytest.approx(0.5 * 0.3)
    assert CML(preset="released")._rise(-differences, counts, batch).item() == 0


def test_an_order_holds_for_a_step_or_an_epoch_and_is_the_same_on_every_process():
    names = ("audio", "visual", "text", "depth")

    def orders(**options):
        method, found = CML(**options), []
        for number in range(8):
            for rank in range(2):
                method.begin_step(Step(names, step=number, epoch=number / 4, rank=rank))
                found.append(tuple(method._order))
        return found

    by_step, by_epoch = orders(), orders(preset="released")
    assert by_step[::2] == by_step[1::2] and len(set(by_step)) > 3
    assert len(set(by_epoch[:8])) == len(set(by_epoch[8:])) == 1 and by_epoch[0] != by_epoch[-1]
    assert CML().options_in_epochs == [] and CML(preset="released").options_in_epochs == ["order=epoch"]


@pytest.mark.parametrize("property", [each for each in PROPERTIES if each not in TWO_PROCESSES])
def test_the_released_preset_has_the_properties(property):
    assert CML(preset="released").accumulation == "per_micro_batch"
    assert CML().accumulation == "exact"
    refused = check(CML, property, preset="released", weight=20.0) is not None
    assert refused == ("cml" in REFUSED.get(property, ()))


def test_one_modality_is_plain_training():
    found, *_ = losses_of(CML(), ("audio",))
    assert list(found) == ["joint"]


@pytest.mark.filterwarnings("ignore:fusion 'product'")
def test_a_product_has_no_prediction_without_a_modality(training_args):
    args = training_args(modulations={"cml": {}})
    with pytest.raises(ValueError, match=r"\['cml'\] .* fusion 'product' predicts the same"):
        MultimodalBalancedTrainer(tiny_model(fusion="product"), args, train_dataset=tiny_dataset())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": -1}, "weight must be a number"),
        ({"order": "run"}, "order must be one of"),
        ({"compare": "rank"}, "compare must be one of"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        CML(**options)
