from __future__ import annotations

import random
from functools import partial

import datasets
import numpy as np
import pytest
import torch
from accelerate import Accelerator
from datasets import Dataset
from tiny import tiny_dataset, tiny_model
from torch.utils.data import DataLoader

from hf_bml import MultimodalBalancedTrainer
from hf_bml.processing.skipped_rows import rows_are_skipped
from hf_bml.training.streamed_rows import SKIPPED, EndlessStream, EvaluationBatches, collate_unless_skipped

ROWS = 20


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    """`datasets` pauses for 5 s whenever the threads of a shuffled stream end."""
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0)


def stream(shards=4, buffer_size=6, rows=ROWS):
    found = Dataset.from_dict({"number": range(rows)}).to_iterable_dataset(num_shards=shards)
    return found.shuffle(seed=0, buffer_size=buffer_size) if buffer_size else found


def tiny_stream(samples=32, shards=2):
    return tiny_dataset(samples=samples).with_format("torch").to_iterable_dataset(num_shards=shards)


def draw(row):
    return {**row, "drawn": [random.random(), np.random.rand(), float(torch.rand(()))]}


def take(rows, count):
    iterator = iter(rows)
    return [next(iterator) for _ in range(count)]


def numbers(rows, count):
    return [row["number"] for row in take(rows, count)]


def test_each_pass_has_every_row_in_another_order():
    seen = numbers(EndlessStream(stream(), seed=3), 3 * ROWS)
    passes = [seen[start : start + ROWS] for start in range(0, 3 * ROWS, ROWS)]
    assert all(sorted(one) == list(range(ROWS)) for one in passes)
    assert len({tuple(one) for one in [*passes, list(range(ROWS))]}) == 4
    assert numbers(EndlessStream(stream(), seed=3), 3 * ROWS) == seen
    assert numbers(EndlessStream(stream(), seed=4), ROWS) != passes[0]


def test_without_a_buffer_rows_stay_in_their_shards():
    seen = numbers(EndlessStream(stream(buffer_size=0), seed=0), ROWS)
    shards = [seen[start : start + 5] for start in range(0, ROWS, 5)]
    assert sorted(shards) == [list(range(start, start + 5)) for start in range(0, ROWS, 5)]


@pytest.mark.parametrize("shards", [4, 3])
def test_processes_and_workers_share_no_row(shards):
    """As in DataLoaders of two processes with two workers each."""
    parts = []
    for rank in range(2):
        loader = DataLoader(EndlessStream(stream(shards), 0, rank, 2), batch_size=1, num_workers=2)
        parts.append([batch["number"].item() for batch in take(loader, 6)])
    assert not set(parts[0]) & set(parts[1])
    assert [len(set(part)) for part in parts] == [6, 6]


def test_draws_depend_on_seed_pass_process_and_row_alone():
    def drawn(rank=0, processes=1, seed=0):
        rows = EndlessStream(stream().map(draw), seed, rank, processes)
        return [tuple(row["drawn"]) for row in take(rows, 2 * ROWS // processes)]

    torch.manual_seed(0)
    first = drawn()
    state = torch.get_rng_state(), random.getstate()
    assert drawn() == first and len(set(first)) == 2 * ROWS
    assert torch.equal(torch.get_rng_state(), state[0]) and random.getstate() == state[1]
    assert not set(first) & set(drawn(seed=1))
    assert not set(drawn(0, 2)) & set(drawn(1, 2))


@pytest.mark.parametrize(("rank", "processes"), [(0, 1), (1, 2), (2, 3)])
@pytest.mark.parametrize("shards", [2, 3])
def test_skipped_rows_are_read_but_not_transformed(shards, rank, processes):
    """What comes after them is as it would have been, over the ends of passes."""
    transformed = []

    def transform(rows):
        if rows_are_skipped():
            return {**rows, "drawn": [None] * len(rows["number"])}
        transformed.extend(rows["number"])
        return {**rows, "drawn": torch.rand(len(rows["number"])).tolist()}

    def after(skipped_batches):
        rows = stream(shards).map(transform, batched=True, batch_size=4)
        rows.rows_transformed_at_once = 4
        endless = EndlessStream(rows, 0, rank, processes, batch_size=5)
        endless.skipped_batches = skipped_batches
        transformed.clear()
        found = take(endless, 60)
        assert found[: 5 * skipped_batches] == [SKIPPED] * 5 * skipped_batches
        return found[5 * skipped_batches :], len(transformed)

    whole, most = after(0)
    for batches in (1, 2, 7, 11):
        found, number = after(batches)
        assert found == whole[5 * batches :]
        assert number <= most * (12 - batches) / 12 + 8 * processes  # and what is transformed together with them
    assert collate_unless_skipped(len, [SKIPPED] * 5) == {} and collate_unless_skipped(len, whole) == 60


def test_workers_skip_the_batches_that_are_theirs():
    def batches(skipped):
        rows = EndlessStream(stream(), 0, batch_size=3)
        rows.skipped_batches = skipped
        collate = partial(collate_unless_skipped, lambda found: [row["number"] for row in found])
        return take(DataLoader(rows, batch_size=3, num_workers=2, collate_fn=collate), 9)

    assert batches(5) == [{}] * 5 + batches(0)[5:]


def test_a_stream_of_nothing():
    empty = stream().filter(lambda row: False)
    with pytest.raises(ValueError, match="expected samples in the stream, found none for process 1 of 2"):
        next(iter(EndlessStream(empty, 0, 1, 2)))


def test_a_worker_whose_shard_is_empty_reads_another_one():
    only_first = stream(shards=2).filter(lambda row: row["number"] < 10)
    loader = DataLoader(EndlessStream(only_first, 0), batch_size=2, num_workers=2)
    assert {number for batch in take(loader, 10) for number in batch["number"].tolist()} == set(range(10))


def test_batches_of_an_evaluation():
    batches = EvaluationBatches(stream(buffer_size=0), Accelerator(cpu=True), batch_size=8, num_workers=0)
    for _ in range(2):
        found = []
        for batch in batches:
            padded = torch.cat([batch["number"], torch.zeros(8 - len(batch["number"]), dtype=torch.int64)])
            found += batches.gather({"values": (padded,)})["values"][0].tolist()
        assert found == list(range(ROWS))


def test_nothing_to_evaluate():
    batches = EvaluationBatches(stream().filter(lambda row: False), Accelerator(cpu=True), batch_size=8, num_workers=0)
    with pytest.raises(ValueError, match=r"samples for each of 1 processes to evaluate, found \[0\]"):
        list(batches)


def test_evaluation_equals_that_of_the_rows_in_memory(training_args):
    """The loss too: the last batch of 4 counts less than the others of 8."""
    rows = tiny_dataset(samples=20)
    trainer = MultimodalBalancedTrainer(
        tiny_model(),
        training_args(per_device_eval_batch_size=8),
        compute_metrics=lambda found: {"accuracy": (found.predictions[0].argmax(1) == found.label_ids).mean()},
    )
    expected = trainer.evaluate(rows)
    found = trainer.evaluate(tiny_stream(samples=20, shards=3))
    for name in ("eval_loss", "eval_accuracy"):
        assert found[name] == pytest.approx(expected[name], abs=1e-7)


@pytest.mark.parametrize(
    ("options", "modulations", "message"),
    [
        ({"eval_strategy": "epoch"}, {}, "eval_strategy: epoch needs .* Set eval_strategy: steps and eval_steps"),
        ({"logging_strategy": "epoch"}, {}, "logging_strategy: epoch needs"),
        ({"save_strategy": "epoch"}, {}, "save_strategy: epoch needs"),
        ({"train_sampling_strategy": "group_by_length"}, {}, "group_by_length picks rows by their number"),
        ({"accelerator_config": {"dispatch_batches": True}}, {}, "dispatch_batches has no effect on streams"),
        ({}, {"opm": {"end": 3}}, r"opm counts in epochs \(end=3\).*Use unit: steps"),
        ({}, {"opm": {"preset": "released"}}, r"opm counts in epochs \(start=6"),
        ({}, {"greedy": {}}, r"greedy counts in epochs \(starting_epoch=2\)"),
        ({}, {"inforeg": {}}, r"inforeg counts in epochs \(threshold=0.05\).*or load the data without streaming"),
    ],
)
def test_what_a_stream_cannot_do(training_args, options, modulations, message):
    rows, args = tiny_stream(), training_args(**{"modulations": modulations, **options})
    with pytest.raises(ValueError, match=message):
        MultimodalBalancedTrainer(tiny_model(), args, train_dataset=rows, eval_dataset=rows)


def test_windows_in_steps_and_from_the_beginning_are_fine(training_args):
    args = training_args(modulations={"opm": {"start": 2, "end": 4, "unit": "steps"}, "ogm": {}})
    trainer = MultimodalBalancedTrainer(tiny_model(), args, train_dataset=tiny_stream())
    trainer.train()
    assert trainer.state.global_step == 8 and trainer.state.epoch == 1
