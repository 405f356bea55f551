from __future__ import annotations

import math

import pytest
import torch
from tiny import hand_computed_case, tiny_dataset, tiny_model
from torch.nn.functional import cross_entropy

from hf_bml import MultimodalBalancedTrainer
from hf_bml.modulation import AMCo, MicroBatch, ModDrop, ModulationStack, MultiLoss, Step
from hf_bml.modulation.amco import masked_count, masked_fraction, share_sums
from hf_bml.testing import check
from hf_bml.testing.training import Setting, subject_of, train
from hf_bml.training.losses import named_losses

NAMES = ("audio", "visual")
LABELS = torch.tensor([0, 2, 1, 1])
BATCH = {"audio": torch.arange(20.0).view(4, 5).sin(), "visual": torch.arange(28.0).view(4, 7).cos()}


def test_shares_of_the_hand_computed_case():
    """T-N9: (0.8, 0.714286) of the first modality, so that the prediction depends on it."""
    logits, _ = hand_computed_case()
    one = share_sums({name: each[:1] for name, each in logits.items()})
    assert one[0].tolist() == pytest.approx([0.8, 0.2])
    both = share_sums(logits)
    assert (both[0] / both[1]).tolist() == pytest.approx([0.757143, 0.242857], abs=1e-6)


def test_shares_are_among_what_a_sample_has():
    """With one modality alone there is nothing to compare; with none neither."""
    logits = {name: torch.zeros(4, 2) + index for index, name in enumerate(("a", "b", "c"))}
    present = torch.tensor([[True, True, False], [False, True, True], [True, False, False], [False] * 3])
    sums, counts = share_sums(logits, present)
    low, high = 1 / (1 + math.e), math.e / (1 + math.e)
    assert sums.tolist() == pytest.approx([low, high + low, high])
    assert counts.tolist() == [1, 2, 1]


def test_shares_of_segments_are_their_mean():
    logits = {"a": torch.tensor([[[9.0, 1.0], [1.0, 1.0]]]).log(), "b": torch.tensor([[[1.5, 1.0], [1.0, 1.0]]]).log()}
    assert share_sums(logits)[0].tolist() == pytest.approx([0.65, 0.35])


def test_the_mask_grows():
    """T-N9: p at l = 0, 0.1, 0.2, 0.3, and how many of six classes that is."""
    found = [masked_fraction(progress, 0.3) for progress in (0, 0.1, 0.2, 0.3, 0.9)]
    assert found == pytest.approx([0, 0.5, 0.866025, 1, 1], abs=1e-6)
    assert [masked_count(fraction, 6) for fraction in found] == [0, 3, 5, 6, 6]


@pytest.mark.parametrize(("modalities", "expected"), [(("a", "b"), 0.5), (("a", "b", "c"), 0.5), ((*"abcd",), 0.375)])
def test_the_threshold_by_number_of_modalities(modalities, expected):
    method = AMCo()
    method.bind(modalities)
    assert method.threshold == expected
    given = AMCo(threshold=0.7)
    given.bind(modalities)
    assert given.threshold == 0.7


def test_a_modality_depends_by_the_shares_of_the_last_closed_step():
    """Sums over micro-batches, divided by counts: 1.7 / 2 of audio; text, which no sample has, is never masked."""
    names, method = ("audio", "visual", "text"), AMCo(threshold=0.8, ramp=0.1)
    method.bind(names)
    first, second = (Step(names, step=number, max_steps=2) for number in (1, 2))
    assert dependent(method, first) == []
    for share in (0.9, 0.8):
        first.add("amco/shares", torch.tensor([[share, 1 - share, 0.0], [1.0, 1.0, 0.0]]))
    assert dependent(method, first) == []
    method.end_step(first)
    assert dependent(method, second) == ["audio"]
    second.add("amco/shares", torch.tensor([[1.5, 0.5, 0.0], [2.0, 2.0, 0.0]]))
    method.end_step(second)
    assert dependent(method, second) == []  # 0.75
    assert method.state_dict()["shares"].tolist() == [0.75, 0.25, 0]


@pytest.mark.parametrize(
    ("shares", "expected"), [((0.5, 0.5), []), ((0.51, 0.49), ["audio"]), ((0.2, 0.8), ["visual"])]
)
def test_a_prediction_depends_on_one_modality_at_most(shares, expected):
    """With a threshold of 0.5, as of two modalities."""
    method = AMCo(ramp=0.1)
    method.bind(NAMES)
    step = Step(NAMES, step=1, max_steps=2)
    step.add("amco/shares", 4 * torch.tensor([shares, (1.0, 1.0)]))
    method.end_step(step)
    assert dependent(method, step) == expected


def dependent(method, step):
    """The modalities of which something is masked in a step."""
    method.begin_step(step)
    masks = method._masks(dict.fromkeys(step.modalities, 3), step, torch.device("cpu"))
    return [name for name, mask in masks.items() if mask.any()]


def test_one_modality_has_its_own_loss_beside_the_joint_one():
    """Nothing is compared, so nothing is masked."""
    model, method = tiny_model(("audio",)), AMCo(threshold=0.0, ramp=0.1)
    stack = ModulationStack([method], ("audio",))
    for number in range(2):
        step = Step(("audio",), step=number, max_steps=2)
        stack.begin_step(step)
        stack.begin_micro_batch(MicroBatch({}, LABELS))
        output = model.train()(audio=BATCH["audio"], labels=LABELS, modulation=stack)
        found = stack.modulate_losses(named_losses(output.loss, output), output)
        method.end_step(step)
        expected = cross_entropy(output.logits, LABELS)
        assert list(found) == ["joint", "audio"]
        torch.testing.assert_close(found["joint"], expected)
        torch.testing.assert_close(found["audio"], expected)


def losses_of(method, *others, shares=(0.9, 0.1), step=2, mask=None):
    """What a training step of twelve minimises, by name, the model and its output."""
    model = tiny_model()
    torch.nn.init.normal_(model.head.classifier[-1].bias)
    stack = ModulationStack([method, *others], NAMES)
    method.load_state_dict({**method.state_dict(), "shares": torch.tensor(shares)})
    stack.begin_step(Step(NAMES, step=step, max_steps=12))
    stack.begin_micro_batch(MicroBatch({}, LABELS))
    output = model.train()(**BATCH, labels=LABELS, modality_mask=mask, modulation=stack)
    return stack.modulate_losses(named_losses(output.loss, output), output), model, output


def masked_classes(method, count=3):
    masks = method._masks(dict.fromkeys(NAMES, count), Step(NAMES, step=2, max_steps=12), torch.device("cpu"))
    return {name: mask.tolist() for name, mask in masks.items()}


def test_the_loss_of_masked_logits():
    """At l = 1/6 of the training and ramp 1/3, p = 0.707: two of three classes of audio count as 0."""
    method = AMCo(ramp=1 / 3)
    found, _, output = losses_of(method)
    masked = masked_classes(method)
    assert sum(masked["audio"]) == 2 and not any(masked["visual"])
    own = output.unimodal_logits
    joint = torch.where(torch.tensor(masked["audio"]), 0.0, own["audio"]) + own["visual"]
    torch.testing.assert_close(found["joint"], cross_entropy(joint, LABELS))
    for name in NAMES:
        torch.testing.assert_close(found[name], cross_entropy(own[name], LABELS))
    assert list(found) == ["joint", *NAMES]


def test_what_is_not_masked_is_the_joint_loss():
    for options in ({"shares": (0.5, 0.5)}, {"step": 0}):
        found, _, output = losses_of(AMCo(), **options)
        assert torch.equal(found["joint"], output.losses["joint"])


def test_all_of_a_modality_masked_trains_it_by_its_own_loss_alone():
    found, model, output = losses_of(AMCo(ramp=0.1))
    torch.testing.assert_close(found["joint"], cross_entropy(output.unimodal_logits["visual"], LABELS))
    found["joint"].backward()
    largest = {m: max(p.grad.abs().max() for p in model.encoders[m].parameters()) for m in NAMES}
    assert largest["audio"] < 1e-6 * largest["visual"]  # what two equal terms of opposite sign leave


def test_what_others_drop_is_not_masked_again():
    """A dropped or absent modality leaves its share of the bias in the joint logits."""
    for others, mask in ((ModDrop(p={"audio": 1.0}),), None), ((), torch.tensor([[False, True]] * 4)):
        found, model, output = losses_of(AMCo(ramp=0.1), *others, mask=mask)
        bias = model.head.classifier[-1].bias
        torch.testing.assert_close(found["joint"], cross_entropy(output.unimodal_logits["visual"] + bias / 2, LABELS))


def test_masked_features():
    """Of four units, half at p = 0.5; the modalities' own losses see all of them."""
    method = AMCo(level="features", ramp=0.5)
    found, model, output = losses_of(method)
    mask = torch.tensor(masked_classes(method, 4)["audio"])
    assert mask.sum() == 2
    seen = [output.features["audio"].where(~mask, 0.0), output.features["visual"]]
    torch.testing.assert_close(found["joint"], cross_entropy(model.head.classifier(torch.cat(seen, 1)), LABELS))
    torch.testing.assert_close(found["audio"], cross_entropy(output.unimodal_logits["audio"], LABELS))


def test_the_released_schedule(training_args):
    """Epochs of four steps: l = n / 10 t at step t of epoch n, from 0 again in each."""
    seen = []

    class Watched(AMCo):
        name = "watched"

        def begin_step(self, step):
            super().begin_step(step)
            seen.append(self._fraction)

    method = Watched(preset="released")
    args = training_args(max_steps=16)
    MultimodalBalancedTrainer(tiny_model(), args, [method], train_dataset=tiny_dataset(samples=32)).train()
    expected = [masked_fraction(epoch / 10 * step, 0.3) for epoch in range(4) for step in range(4)]
    assert seen == pytest.approx(expected)
    assert seen[:4] == [0] * 4 and seen[13:] == pytest.approx([1] * 3)


@pytest.mark.parametrize("options", [{}, {"level": "features"}])
def test_a_training_masks_something(options):
    found = train(subject_of("amco", {"threshold": 0.0, **options}), Setting(steps=5))
    assert found.logs["amco/masked_audio"] == pytest.approx((math.sin(math.pi / 3) + 3) / 5)  # none in the first step
    assert found.logs["amco/share_audio"] + found.logs["amco/share_visual"] == pytest.approx(1)


@pytest.mark.parametrize("property", ["accumulation", "missing modalities", "segments", "questions", "balance"])
@pytest.mark.parametrize("options", [{"level": "features", "ramp": 2.0}, {"ramp": 2.0}])
def test_masked_in_part(property, options):
    assert check("amco", property, threshold=0.0, **options) is None


def test_multi_loss_trains_the_same_predictions():
    with pytest.raises(ValueError, match="gives a loss named 'audio', which is already taken"):
        losses_of(AMCo(), MultiLoss())


@pytest.mark.parametrize("options", [{"threshold": 1.5}, {"ramp": 0}, {"level": "inputs"}, {"schedule": "steps"}])
def test_bad_options(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        AMCo(**options)
