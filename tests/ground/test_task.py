"""The loss and the score of each task, by hand and against torch."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from hf_bml.ground.task import CLASSIFICATION, MultiLabelTask, RegressionTask, Task, cross_entropy

LOGITS = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]], dtype=torch.float64).log()
LOSSES = torch.tensor([-math.log(0.9), -math.log(0.5), -math.log(0.8)], dtype=torch.float64)
LABELS = torch.tensor([0, 1, 1])
WEIGHTS = torch.tensor([1.0, 0.0, 4.0], dtype=torch.float64)


def test_unlabelled_samples_count_in_no_loss_and_no_score():
    labels = torch.tensor([0, -100, 1])
    expected = LOSSES[[0, 2]].mean()
    torch.testing.assert_close(CLASSIFICATION.loss(LOGITS, labels), expected)
    torch.testing.assert_close(CLASSIFICATION.losses(LOGITS, labels), LOSSES * torch.tensor([1, 0, 1]))
    torch.testing.assert_close(CLASSIFICATION.loss(LOGITS, labels, torch.tensor([True, True, False])), LOSSES[0])
    torch.testing.assert_close(CLASSIFICATION.score(LOGITS, labels)[[0, 2]], torch.tensor([0.9, 0.8]).double())
    assert CLASSIFICATION.counts(labels).tolist() == [True, False, True]


@pytest.mark.parametrize("present", [None, torch.ones(3, dtype=torch.bool)])
def test_without_any_label_the_loss_is_zero_and_so_is_its_gradient(present):
    logits = LOGITS.clone().requires_grad_()
    loss = CLASSIFICATION.loss(logits, torch.full((3,), -100), present)
    loss.backward()
    assert loss == 0 and not logits.grad.any()


def test_the_loss_of_a_clip_is_the_mean_over_its_labelled_segments():
    logits, labels = LOGITS.expand(2, 3, 2), torch.tensor([[0, 1, 1], [0, -100, -100]])
    torch.testing.assert_close(CLASSIFICATION.losses(logits, labels), torch.stack([LOSSES.mean(), LOSSES[0]]))
    torch.testing.assert_close(CLASSIFICATION.loss(logits, labels), torch.cat([LOSSES, LOSSES[:1]]).mean())


def test_soft_labels():
    labels = torch.tensor([[1.0, 0.0], [0.3, 0.7], [0.0, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(CLASSIFICATION.losses(LOGITS, labels), LOSSES)
    torch.testing.assert_close(CLASSIFICATION.score(LOGITS, labels), torch.tensor([0.9, 0.5, 0.8]).double())
    assert CLASSIFICATION.correct(LOGITS.flip(1), labels).tolist() == [False, False, False]
    mixed = CLASSIFICATION.losses(LOGITS[:1], torch.tensor([[0.25, 0.75]]))
    torch.testing.assert_close(mixed, torch.tensor([-0.25 * math.log(0.9) - 0.75 * math.log(0.1)]).double())


def test_weights_of_classes_and_samples_divide_by_the_number_of_samples():
    task = Task([2.0, 1.0])
    torch.testing.assert_close(task.losses(LOGITS, LABELS), LOSSES * torch.tensor([2, 1, 1]))
    torch.testing.assert_close(task.loss(LOGITS, LABELS), (2 * LOSSES[0] + LOSSES[1] + LOSSES[2]) / 3)
    expected = (2 * LOSSES[0] + 4 * LOSSES[2]) / 3
    torch.testing.assert_close(task.loss(LOGITS, LABELS, None, WEIGHTS), expected)
    torch.testing.assert_close(task.score(LOGITS, LABELS), CLASSIFICATION.score(LOGITS, LABELS))


@pytest.mark.parametrize(
    "task", [Task(), Task([2.0, 1.0]), MultiLabelTask([3.0, 1.0]), RegressionTask([1.0] * 2, [2.0] * 2)]
)
def test_micro_batches_of_equal_size_add_up(task):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(8, 2, generator=generator, dtype=torch.float64)
    labels = torch.rand(8, 2, generator=generator, dtype=torch.float64)
    if task.problem_type == "single_label_classification":
        labels = torch.arange(8) % 2
    weights = torch.rand(8, generator=generator, dtype=torch.float64)
    parts = [task.loss(logits[rows], labels[rows], None, weights[rows]) for rows in torch.arange(8).split(2)]
    torch.testing.assert_close(torch.stack(parts).mean(), task.loss(logits, labels, None, weights))


def test_multi_label():
    task, yes = MultiLabelTask(), torch.tensor([[0.9, 0.2], [0.6, 0.6]], dtype=torch.float64)
    logits, labels = yes.logit(), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    bits = nn.functional.binary_cross_entropy_with_logits(logits, labels.double(), reduction="none")
    torch.testing.assert_close(task.losses(logits, labels), bits.mean(1))
    torch.testing.assert_close(task.loss(logits, labels, torch.tensor([False, True])), bits[1].mean())
    torch.testing.assert_close(task.score(logits.expand(3, 2, 2), labels)[1], torch.tensor([0.85, 0.5]).double())
    assert task.correct(logits, labels).tolist() == [True, False]
    torch.testing.assert_close(
        MultiLabelTask([2.0, 5.0]).losses(logits, labels), bits @ torch.tensor([1.0, 0.5]).double()
    )


def test_regression():
    task = RegressionTask([70.0], [10.0])
    logits, labels = torch.tensor([[80.0], [70.0]]).double(), torch.tensor([70.0, 65.0])
    torch.testing.assert_close(task.in_units(torch.tensor([[1.0]])), torch.tensor([[80.0]]))
    torch.testing.assert_close(task.losses(logits, labels), torch.tensor([1.0, 0.25]).double())
    torch.testing.assert_close(task.score(logits, labels), torch.tensor([-0.5, -0.125]).exp().double())
    assert task.correct(logits, labels.view(2, 1)).tolist() == [True, True]


def test_the_variance_of_a_regression_runs_over_all_modalities_and_is_kept():
    task, labels = RegressionTask(), torch.zeros(2)
    logits = torch.tensor([[[1.0], [3.0]], [[5.0], [1.0]]])  # (modalities, batch, 1)
    present = torch.tensor([[True, True], [False, True]])
    parts = [task.observed(logits[:, row], labels[row], present[:, row]) for row in (slice(0, 1), slice(1, 2))]
    assert sum(parts).tolist() == task.observed(logits, labels, present).tolist() == [11.0, 3.0]
    task.learn(torch.tensor([11.0, 3.0]))
    torch.testing.assert_close(task.variance, torch.tensor([11 / 3]))
    task.learn(torch.tensor([0.0, 0.0]))  # nothing was seen
    task.learn(torch.tensor([8.0, 4.0]))
    expected = 0.9 * 11 / 3 + 0.1 * 2
    torch.testing.assert_close(
        task.score(torch.tensor([[1.0]]), labels[:1]), torch.tensor([math.exp(-0.5 / expected)])
    )
    resumed = RegressionTask()
    resumed.load_state_dict(task.state_dict())
    assert torch.equal(resumed.score(logits, labels), task.score(logits, labels))
    task.forget()
    assert task.variance is None


@pytest.mark.parametrize(
    ("task", "labels", "fits"),
    [
        (CLASSIFICATION, torch.tensor([0, 2, -1, -100]), [True, False, False, True]),
        (CLASSIFICATION, torch.tensor([[0.5, 0.5], [0.5, 0.6], [1.5, -0.5]]), [True, False, False]),
        (CLASSIFICATION, torch.ones(2, 3), None),
        (MultiLabelTask(), torch.tensor([[1.0, 0.0], [1.5, 0.0]]), [True, False]),
        (MultiLabelTask(), torch.tensor([1, 0]), None),
        (RegressionTask(), torch.tensor([[1.0, math.nan], [2.0, 0.0]]), [False, True]),
        (RegressionTask(), torch.ones(2), None),
    ],
)
def test_which_labels_fit(task, labels, fits):
    found = task.fits(labels, 2)
    assert (found if found is None else found.tolist()) == fits
    assert "2" in task.expected(2)


def test_no_option_is_torch_bit_for_bit():
    logits, labels = torch.randn(16, 5), torch.arange(16) % 5
    assert torch.equal(cross_entropy(logits, labels), nn.functional.cross_entropy(logits, labels))
    assert torch.equal(CLASSIFICATION.loss(logits, labels), nn.functional.cross_entropy(logits, labels))
