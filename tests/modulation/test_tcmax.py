from __future__ import annotations

import itertools
import math
from functools import partial
from typing import ClassVar

import pytest
import torch
from tiny import hand_computed_batch, hand_computed_case, tiny_dataset, tiny_model
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from hf_bml import MultimodalBalancedTrainer
from hf_bml.modulation import OPM, MicroBatch, ModDrop, ModulationStack, MultiLoss, Needs, Step, TCMax
from hf_bml.modulation.tcmax import drawn, log_mean_of_combinations
from hf_bml.testing import check
from hf_bml.training.losses import named_losses

close = partial(assert_close, atol=1e-6, rtol=0)
NAMES = ("audio", "visual", "text")
SIZES = {"audio": 5, "visual": 7, "text": 3}


def test_by_hand():
    """T-N15: A = (10, 5), (2.5, 2), Z = 4.375."""
    logits, labels = hand_computed_case()
    close(log_mean_of_combinations(logits).exp(), torch.tensor(4.375))
    _, features, batch = hand_computed_batch()
    method = TCMax()
    method.bind(("audio", "visual"))
    step = Step(("audio", "visual"))
    method.modulate_features(features, batch, None, step)
    losses = method.forward_losses(features, batch, step)
    joint = sum(logits.values())
    batch.output = {"logits": joint}
    found = method.modulate_losses({"joint": cross_entropy(joint, labels), **losses}, batch, step)
    close(sum(found.values()), torch.tensor(-0.518586))
    close(method.logs()["tcmax/loss"], torch.tensor(-0.518586))


def brute_force(logits, present):
    rows = [torch.arange(len(own))[present[:, column]] for column, own in enumerate(logits.values())]
    combinations = [
        sum(own[row] for own, row in zip(logits.values(), chosen, strict=True)) for chosen in itertools.product(*rows)
    ]
    return torch.stack(combinations).exp().mean().log()


@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_it_is_the_mean_over_all_combinations_of_what_is_there(modalities):
    generator = torch.Generator().manual_seed(0)
    logits = {name: torch.randn(4, 5, generator=generator) for name in NAMES[:modalities]}
    present = torch.rand(4, modalities, generator=generator) < 0.6
    present[0] = True
    assert_close(log_mean_of_combinations(logits, present), brute_force(logits, present))
    everything = torch.ones_like(present)
    assert_close(log_mean_of_combinations(logits), brute_force(logits, everything))
    order = torch.tensor([2, 0, 3, 1])
    shuffled = {**logits, "audio": logits["audio"][order]}
    assert_close(log_mean_of_combinations(shuffled), log_mean_of_combinations(logits))


def test_samples_are_drawn_of_those_that_are_there():
    draws = torch.linspace(0, 1, 9)[:8]
    assert drawn(draws, torch.tensor([False, True, True, False] * 2)).tolist() == [1, 1, 2, 2, 5, 5, 6, 6]
    assert drawn(draws, torch.ones(8, dtype=torch.bool)).tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert drawn(draws, torch.zeros(8, dtype=torch.bool)).tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    last = torch.full((3,), 1 - 2**-24)  # times 3, it is 3 in float32
    assert drawn(last, torch.ones(3, dtype=torch.bool)).tolist() == [2, 2, 2]


def test_drawn_combinations_come_close_to_all_of_them():
    labels = torch.tensor([0, 2, 1, 1])
    mask = torch.ones(4, 3, dtype=torch.bool)
    mask[:2, 1] = mask[:, 2] = False
    exact, *_ = losses_of([TCMax()], labels, mask)
    few, *_ = losses_of([TCMax(shuffles=2000)], labels, mask)  # 4,000, two of the four places have all there is
    assert_close(few["tcmax"], exact["tcmax"], atol=0.02, rtol=0)
    assert_close(few["joint"], exact["joint"])


def test_drawn_combinations_contain_nothing_that_opm_drops():
    labels = torch.arange(12) % 3
    scores = {"scores": torch.tensor([0.9, 0.3, 0.3]), "ratios": torch.tensor([3.0, 0.5, 0.5])}
    exact, output, _ = losses_of([OPM(), TCMax()], labels, **scores)
    few, same, _ = losses_of([OPM(), TCMax(shuffles=2000)], labels, **scores)
    assert 0 < output.keep_mask[:, 0].sum() < len(labels)  # some samples have lost the dominant modality
    assert torch.equal(output.keep_mask, same.keep_mask)
    assert_close(few["tcmax"], exact["tcmax"], atol=0.02, rtol=0)  # 0.1 apart if dropped features were drawn


def test_a_head_with_hidden_layers():
    """All combinations, one by one, are those of the drawn normaliser's limit."""
    labels = torch.tensor([0, 2, 1, 1])
    found, output, model = losses_of([TCMax(shuffles=2000)], labels, head_hidden_sizes=[4])
    combinations = torch.cartesian_prod(*[torch.arange(4)] * 3).unbind(1)
    features = {name: own[rows] for (name, own), rows in zip(output.features.items(), combinations, strict=True)}
    everything = model.head(features)
    assert_close(found["tcmax"], everything.exp().mean().log(), atol=0.02, rtol=0)
    found["tcmax"].backward()
    assert model.head.get_parameter("classifier.0.weight").grad.any()


def test_without_a_sample_that_has_everything():
    """Places then predict from what they have: here all of one of two modalities."""
    labels = torch.tensor([0, 2, 1, 1])
    mask = torch.tensor([[True, False, False], [False, True, False]]).repeat(2, 1)
    found, _, model = losses_of([TCMax(shuffles=3)], labels, mask)
    assert torch.isfinite(found["tcmax"])
    found["tcmax"].backward()
    assert torch.isfinite(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])).all()


@pytest.mark.parametrize("shuffles", [None, 2])
def test_samples_without_a_label_count_in_the_normaliser_only(shuffles):
    labels = torch.tensor([0, 2, -100, 1])
    found, output, _ = losses_of([TCMax(shuffles=shuffles)], labels)
    rows = torch.tensor([0, 1, 3])
    assert_close(found["joint"], -output.logits[rows].gather(1, labels[rows, None]).mean())


def losses_of(methods, labels, modality_mask=None, scores=None, ratios=None, **options):
    model = tiny_model(NAMES, **options)
    torch.nn.init.normal_(model.head.get_parameter("classifier.0.bias"))
    inputs = {name: torch.arange(float(len(labels) * size)).view(-1, size).sin() for name, size in SIZES.items()}
    stack = ModulationStack(methods, NAMES)
    stack.begin_step(Step(NAMES, scores=scores, ratios=ratios))
    stack.begin_micro_batch(MicroBatch({}, labels))
    output = model.train()(**inputs, labels=labels, modality_mask=modality_mask, modulation=stack)
    return stack.modulate_losses(named_losses(output.loss, output), output), output, model


def test_the_whole_loss_of_a_model():
    labels = torch.tensor([0, 2, 1, 1])
    found, output, _ = losses_of([TCMax()], labels)
    everything = torch.ones(4, 3, dtype=torch.bool)
    first = output.logits.gather(1, labels[:, None]).mean()
    assert_close(sum(found.values()), brute_force(output.unimodal_logits, everything) - first)


def test_a_single_sample_has_the_plain_loss():
    """L = CE - ln C."""
    labels = torch.tensor([1])
    found, output, _ = losses_of([TCMax()], labels)
    assert_close(sum(found.values()), cross_entropy(output.logits, labels) - math.log(3))


def test_uniform_logits_have_no_loss_and_a_common_shift_changes_nothing():
    labels = torch.tensor([0, 2, 1, 1])
    method = TCMax()
    for shift in (0.0, 7.5):
        logits = {name: torch.full((4, 3), shift / 3) for name in NAMES}
        batch = MicroBatch(logits, labels, output={"logits": sum(logits.values())})
        joint, normaliser = cross_entropy(batch.output["logits"], labels), log_mean_of_combinations(logits)
        found = method.modulate_losses({"joint": joint, "tcmax": normaliser}, batch, Step(NAMES))
        close(sum(found.values()), torch.tensor(0.0))


def test_absent_and_dropped_modalities_count_in_no_combination():
    labels = torch.tensor([0, 2, 1, 1])
    mask = torch.ones(4, 3, dtype=torch.bool)
    mask[:2, 1] = False
    found, output, model = losses_of([TCMax(), ModDrop(p={"text": 1.0})], labels, mask)
    assert not output.keep_mask[:, 2].any()
    logits = {**output.unimodal_logits, "text": (model.head.classifier[-1].bias / 3).expand(4, -1)}
    mask[:, 2] = True  # dropped everywhere: its share of the bias is left
    assert_close(found["tcmax"], brute_force(logits, mask))
    assert_close(found["joint"], -output.logits.gather(1, labels[:, None]).mean())


def test_beside_multi_loss():
    found, *_ = losses_of([TCMax(), MultiLoss()], torch.tensor([0, 2, 1, 1]))
    assert list(found) == ["joint", *NAMES, "tcmax"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head_hidden_sizes": [4]}, r"\['tcmax'\] need .* must be the sum.* give tcmax `shuffles`"),
        ({"fusion": "film"}, r"\['tcmax'\] need .* must be the sum.* give tcmax `shuffles`"),
        ({"bias_split": {"audio": 1.0, "visual": 1.0}}, "shares of its bias must sum to 1"),
    ],
)
def test_models_that_it_refuses(training_args, options, message):
    args = training_args(modulations={"tcmax": {}})
    with pytest.raises(ValueError, match=message):
        MultimodalBalancedTrainer(tiny_model(**options), args, train_dataset=tiny_dataset())


class OnBoundedVotes(TCMax):
    """Of a model that the property suite joins by bounded votes."""

    options: ClassVar = {"fusion": "bounded"}

    def needs(self, modalities):
        return super().needs(modalities) | Needs(model_options=self.options)


class OnSharedHead(OnBoundedVotes):
    options: ClassVar = {"fusion": "shared", "shared_prediction": "sum"}


class Drawn(OnBoundedVotes):
    options: ClassVar = {"head_hidden_sizes": [4]}

    def __init__(self, shuffles=2, **options):
        super().__init__(shuffles=shuffles, **options)


class AnyHead(TCMax):
    """Drawn combinations for a model as the property suite has it."""

    def __init__(self, shuffles=2, **options):
        super().__init__(shuffles=shuffles, **options)


@pytest.mark.parametrize("property", ["balance", "segments", "questions", "bf16", "skipped fp16 step"])
def test_drawn_combinations_of_other_models(property):
    assert check(AnyHead, property) is None


def test_features_that_are_not_one_row_a_sample_are_refused():
    method, labels = TCMax(shuffles=1), torch.tensor([0, 1])
    features = {"image": torch.zeros(5, 3), "text": torch.zeros(2, 3)}
    batch = MicroBatch({}, labels, features=features)
    method.bind(("image", "text"))
    method.modulate_features(features, batch, None, Step(("image", "text")))
    with pytest.raises(ValueError, match=r"the 2 of this batch have \{'image': 5\} rows"):
        method.forward_losses(features, batch, Step(("image", "text")))


@pytest.mark.parametrize("method", [OnBoundedVotes, OnSharedHead, Drawn])
@pytest.mark.parametrize("property", ["accumulation", "1 to 4 modalities", "missing modalities", "resuming"])
def test_other_heads_in_training(method, property):
    assert check(method, property) is None
