"""What a training reads where methods number, plan or repeat its rows."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from tiny import tiny_dataset, tiny_model

from hf_bml import MultimodalBalancedTrainer
from hf_bml.modulation import EpochPlan, Modulation, ModulationStack, Needs
from hf_bml.training.needs import check_rows


class Watches(Modulation):
    """Keeps what it sees of the rows, by epoch."""

    name = "watches"
    phase = "data"

    def __init__(self):
        super().__init__()
        self.seen, self.turns = {}, []

    def needs(self, modalities):
        return Needs(rows=True)

    def keep_modalities(self, batch, keep_mask, step):
        self.turns.append((step.turn, batch.rows.tolist()))
        for row, values in zip(batch.rows.tolist(), batch.inputs["audio"], strict=True):
            self.seen.setdefault(int(step.epoch), {}).setdefault(row, []).append(values.clone())
        return keep_mask


class Repeats(Watches):
    name = "repeats"

    def needs(self, modalities):
        return Needs(rows=True, steps_per_batch=2)


class PlansSecondEpoch(Watches):
    name = "plans_second_epoch"

    def plan_epoch(self, epoch):
        return EpochPlan(torch.zeros(20, dtype=torch.int64)) if epoch == 1 else None


def train(training_args, method, dataset, **options):
    options = {"per_device_train_batch_size": 4, "max_steps": 10, **options}
    trainer = MultimodalBalancedTrainer(tiny_model(), training_args(**options), [method], train_dataset=dataset)
    trainer.train()
    return method


def augmented(rows):
    return {**rows, "audio": [torch.tensor(value) + torch.rand(1) for value in rows["audio"]]}


def test_augmented_rows_differ_between_epochs(training_args):
    dataset = tiny_dataset(samples=20).with_format(None).with_transform(augmented)
    seen = train(training_args, Watches(), dataset).seen
    assert set(seen) == {0, 1} and all(set(rows) == set(range(20)) for rows in seen.values())
    assert all(not torch.equal(seen[0][row][0], seen[1][row][0]) for row in range(20))


def test_whole_windows_are_repeated(training_args):
    """20 samples in windows of 8: two of them, each in two turns; the last, incomplete one is left out."""
    turns = train(training_args, Repeats(), tiny_dataset(samples=20), gradient_accumulation_steps=2, max_steps=4).turns
    assert [turn for turn, _ in turns] == [0, 0, 1, 1] * 2
    for first in (0, 4):
        assert [rows for _, rows in turns[first : first + 2]] == [rows for _, rows in turns[first + 2 : first + 4]]
    assert len({row for _, rows in turns for row in rows}) == 16


def test_an_epoch_without_a_plan_has_every_row_once(training_args):
    seen = train(training_args, PlansSecondEpoch(), tiny_dataset(samples=20), dataloader_num_workers=1).seen
    assert sorted(seen[0]) == list(range(20))
    assert list(seen[1]) == [0] and len(seen[1][0]) == 20


class PlansItsOrder(Watches):
    name = "plans_its_order"

    def plan_epoch(self, epoch):
        return EpochPlan(torch.arange(19, -1, -1), shuffled=False)


def test_a_plan_may_fix_the_order(training_args):
    """A worker loads them; a resumed training knows the order from its checkpoint."""
    method = train(training_args, PlansItsOrder(), tiny_dataset(samples=20), dataloader_num_workers=1)
    read = [row for _, rows in method.turns for row in rows]
    assert read == [*range(19, -1, -1)] * 2


class KeepsAudio(Modulation):
    name = "keeps_audio"
    phase = "data"

    def plan_epoch(self, epoch):
        return EpochPlan(torch.arange(20), torch.tensor([[True, False]] * 20))


class SeesMasks(Modulation):
    name = "sees_masks"
    phase = "drop"

    def forget(self):
        self.seen = []

    def keep_modalities(self, batch, keep_mask, step):
        self.seen.append(None if keep_mask is None else keep_mask.any(0).tolist())
        return keep_mask


def test_a_plan_drops_modalities_in_the_methods_window_only(training_args):
    masks, args = SeesMasks(), training_args(per_device_train_batch_size=4, max_steps=5)
    methods = [KeepsAudio(unit="steps", end=2), masks]
    MultimodalBalancedTrainer(tiny_model(), args, methods, train_dataset=tiny_dataset(samples=20)).train()
    assert masks.seen == [[True, False]] * 2 + [None] * 3


@pytest.mark.parametrize(("split_batches", "samples"), [(True, 8), (False, 16)])
def test_the_smallest_split_that_can_be_repeated(training_args, split_batches, samples, monkeypatch):
    """Of two processes, which share a batch of 4 or read one each; two batches a step."""
    options = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
    method, dataset = Repeats(), tiny_dataset(samples=samples)
    trainer = MultimodalBalancedTrainer(tiny_model(), training_args(**options), [method], train_dataset=dataset)
    monkeypatch.setattr(trainer, "accelerator", SimpleNamespace(split_batches=split_batches, num_processes=2))
    stack = ModulationStack([method], ("audio", "visual"))
    check_rows(trainer, stack)
    trainer.train_dataset = tiny_dataset(samples=samples - 1)
    with pytest.raises(ValueError, match=f"repeat the {samples} samples of an optimizer step"):
        check_rows(trainer, stack)
