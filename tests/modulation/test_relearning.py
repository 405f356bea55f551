from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from tiny import tiny_dataset, tiny_model
from tiny_images import tiny_image_dataset, tiny_image_model

from hf_bml import MultimodalBalancedTrainer
from hf_bml.modulation import Relearning
from hf_bml.modulation.relearning import clustered, purity, relearning_rate, rows_of_labels
from hf_bml.testing.properties import claim_finite
from hf_bml.testing.training import Setting, subject_of, train


def test_the_hand_computed_case():
    """T-N10: labels 000111 in the clusters 001110; theta_0 = 1 and theta = 3."""
    found = purity(np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, 1, 1, 1, 0]))
    assert found == pytest.approx(0.666667, abs=1e-6)
    assert 0.8 - found == pytest.approx(0.133333, abs=1e-6)
    rate = relearning_rate(0.8, found, 3.0)
    assert rate == relearning_rate(found, 0.8, 3.0) == pytest.approx(0.379949, abs=1e-6)
    assert rate * 1 + (1 - rate) * 3 == pytest.approx(2.240102, abs=1e-6)
    assert torch.tensor(3.0, dtype=torch.float64).lerp(torch.tensor(1.0, dtype=torch.float64), rate).item() == (
        pytest.approx(2.240102, abs=1e-6)
    )


def test_rates_between_none_and_all():
    assert relearning_rate(0.7, 0.7, 3.0) == 0
    assert relearning_rate(0.9, 0.5, 1e9) == 1
    assert relearning_rate(1.0, 0.5, 2.0) == pytest.approx(math.tanh(1))


def test_groups_that_differ_in_a_small_dimension_are_found():
    """Scaled by dimension; a constant one tells nothing."""
    noise = np.random.default_rng(0).normal(size=60)
    group = np.arange(60) % 2
    features = np.stack([1000 * np.sign(group - 0.5), 1e-3 * noise, np.full(60, 7.0)], axis=1)
    assert purity(group, clustered(features[:, [0, 2]], 2, seed=0)) == 1
    features[:, 0], features[:, 1] = 1000 * noise / np.abs(noise).max() / 10, np.sign(group - 0.5) * 1e-3
    assert purity(group, clustered(features, 2, seed=0)) == 1
    assert set(clustered(features[:1], 2, seed=0)) == {0}


def test_rows_are_those_with_the_modality_and_of_each_segment():
    present = torch.tensor([True, False, True])
    features, labels = rows_of_labels(torch.arange(6.0).view(3, 2), torch.tensor([5, 6, 7]), present)
    assert features.tolist() == [[0, 1], [4, 5]] and labels.tolist() == [5, 7]
    by_segment = torch.arange(12.0).view(3, 2, 2)
    features, labels = rows_of_labels(by_segment, torch.tensor([[0, 1], [2, 3], [4, 5]]), present)
    assert features.tolist() == [[0, 1], [2, 3], [8, 9], [10, 11]] and labels.tolist() == [0, 1, 4, 5]
    features, _ = rows_of_labels(by_segment, torch.tensor([5, 6, 7]), present)
    assert features.tolist() == [[1, 2], [9, 10]]  # means over what is not labelled


PURITIES = {"audio": (0.9, 0.6), "visual": (0.7, 0.75)}


def diagnosed(training_args, model=None, purities=PURITIES, **options):
    """A trainer whose training has been diagnosed once, at its last step; and the weights before and after that."""
    method = Relearning(every=1, times=1, held_out=0.25, **options)
    weights = {}

    class Watched(Relearning):
        name = "watched"

        def _purity(self, collected, modality, column):
            assert 0 < super()._purity(collected, modality, column) <= 1
            return purities[modality][{24: 0, 8: 1}[len(collected["labels"])]]

        def begin_step(self, step):
            weights["before"] = {k: v.clone() for k, v in self._run.model.state_dict().items()}
            super().begin_step(step)
            weights["after"] = {k: v.clone() for k, v in self._run.model.state_dict().items()}
            weights["momentum"] = {p for p in self._run.model.parameters() if p in step.optimizer.state}

    watched = Watched(method.config)
    model = tiny_image_model() if model is None else model
    start = {k: v.clone() for k, v in model.state_dict().items()}
    dataset = tiny_image_dataset(samples=32)  # 24 are left, in 3 steps of 8
    trainer = MultimodalBalancedTrainer(model, training_args(max_steps=4), [watched], train_dataset=dataset)
    trainer.train()
    return trainer, watched.summary()["diagnoses"], start, weights


def test_encoders_are_pulled_back_by_their_rates(training_args):
    trainer, [found], start, weights = diagnosed(training_args)
    assert found["epoch"] == 1
    assert found["rate"] == pytest.approx({"audio": math.tanh(0.9), "visual": math.tanh(0.15)}, abs=1e-6)
    for name, after in weights["after"].items():
        before, rate = weights["before"][name], 0.0
        if name.startswith("encoders") and "running" not in name and "num_batches" not in name:
            rate = found["rate"][name.split(".")[1]]
        expected = rate * start[name] + (1 - rate) * before if rate else before
        torch.testing.assert_close(after, expected)
    assert set(weights["momentum"]) == set(trainer.model.parameters())
    logged = {key: value for entry in trainer.state.log_history for key, value in entry.items()}
    assert logged["watched/rate_audio"] == pytest.approx(found["rate"]["audio"])
    assert logged["watched/held_out_purity_visual"] == pytest.approx(0.75)


def test_an_endless_pull_restores_the_start_with_buffers_and_momentum(training_args):
    trainer, [found], start, weights = diagnosed(training_args, lam=1e9, buffers="blend", reset_momentum=True)
    assert set(found["rate"].values()) == {1}
    for modality in found["rate"]:
        names = [name for name in start if name.startswith(f"encoders.{modality}") and "num_batches" not in name]
        assert any("running" in name for name in names)
        assert all(torch.equal(weights["after"][name], start[name]) for name in names)
        assert not weights["momentum"] & set(trainer.model.encoders[modality].parameters())
    assert weights["momentum"] >= set(trainer.model.head.parameters())


def test_no_gap_changes_nothing(training_args):
    _, [found], _, weights = diagnosed(training_args, purities=dict.fromkeys(PURITIES, (0.7, 0.7)))
    assert set(found["rate"].values()) == {0}
    assert all(torch.equal(weights["before"][name], value) for name, value in weights["after"].items())


@pytest.mark.parametrize("purities", [(0.7, 0.7), (0.0, 0.9)])
def test_momentum_stays_where_nothing_is_pulled_back(training_args, purities):
    """No gap; or no sample of a split has audio. Visual is pulled back."""
    diagnoses = {"audio": purities, "visual": (0.9, 0.6)}
    trainer, [found], _, weights = diagnosed(training_args, purities=diagnoses, reset_momentum=True)
    assert found["rate"]["audio"] == 0 < found["rate"]["visual"]
    assert weights["momentum"] >= set(trainer.model.encoders["audio"].parameters())
    assert not weights["momentum"] & set(trainer.model.encoders["visual"].parameters())


def test_diagnoses_are_every_so_many_epochs_and_no_more_than_wanted(training_args):
    """After 0.5 and 1 epochs of three steps: before the third step and the fourth."""
    args = training_args(modulations={"relearning": {"every": 0.5, "times": 2, "held_out": 0.25}}, max_steps=7)
    trainer = MultimodalBalancedTrainer(tiny_model(), args, train_dataset=tiny_dataset(samples=32))
    trainer.train()
    [method] = trainer.modulation
    assert [found["epoch"] for found in method.summary()["diagnoses"]] == pytest.approx([2 / 3, 1])


def test_frozen_parameters_stay_out_of_the_copy(training_args):
    model = tiny_image_model()
    model.encoders["audio"].requires_grad_(False)
    trainer, _, _, _ = diagnosed(training_args, model)
    [method] = trainer.modulation
    assert not method.state_dict()["start"]["audio"] and len(method.snapshots()) == len(
        [*model.encoders["visual"].parameters()]
    )


def test_the_start_is_not_copied_before_every_fp16_step():
    """The trainer's copy of the state shares it."""
    method = Relearning()
    method._start = {"audio": {"weight": torch.ones(2)}}
    shared = {id(tensor): tensor for tensor in method.snapshots()}
    assert copy.deepcopy(method.state_dict(), shared)["start"]["audio"]["weight"] is method.snapshots()[0]


@pytest.mark.parametrize("kind", ["segments", "questions"])
def test_other_tasks(kind):
    found = train(subject_of("relearning", {"every": 0.3}), Setting(kind=kind, steps=3))
    claim_finite(found)
    assert 0 < found.logs["relearning/train_purity_audio"] <= 1


@pytest.mark.parametrize(("samples", "warns"), [(120, False), (116, True)])
def test_few_held_out_rows(training_args, samples, warns, recwarn):
    """30 of 3 classes are enough."""
    args = training_args(modulations={"relearning": {"held_out": 0.25}})
    MultimodalBalancedTrainer(tiny_model(), args, train_dataset=tiny_dataset(samples=samples))
    found = [str(each.message) for each in recwarn if "relearning clusters" in str(each.message)]
    assert len(found) == warns and all("29 held-out rows (held_out=0.25) into 3 classes" in each for each in found)


@pytest.mark.parametrize(
    "options",
    [{"every": 0}, {"times": 0}, {"lam": 0}, {"held_out": 1}, {"fraction": 0}, {"buffers": 0}, {"reset_momentum": 2}],
)
def test_bad_options(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Relearning(**options)
