from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from hf_bml.training.seeded_rows import SeededRows


class Draws(Dataset):
    """Rows of a row number and a draw from each of the three global streams."""

    def __len__(self):
        return 12

    def __getitem__(self, row):
        return row, random.random(), np.random.rand(), torch.rand(()).item()


def load(rows, **options):
    """Every row of an epoch by its number."""
    batches = DataLoader(rows, collate_fn=list, **options)
    return {row[0]: row[1:] for batch in batches for row in batch}


def test_a_row_depends_on_seed_epoch_and_row_alone():
    rows = SeededRows(Draws(), seed=3)
    first = load(rows, batch_size=5)
    assert len(first) == 12 and len({draw for draws in first.values() for draw in draws}) == 36
    torch.manual_seed(99)
    assert load(rows, batch_size=2, shuffle=True) == first
    assert rows[7][1:] == first[7]
    assert load(SeededRows(Draws(), seed=4), batch_size=5)[7] != first[7]
    rows.set_epoch(1)
    second = load(rows, batch_size=5)
    assert not set(second.values()) & set(first.values())
    rows.set_epoch(0)
    assert load(rows, batch_size=5) == first


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_load_the_same_rows_in_every_epoch(persistent):
    rows = SeededRows(Draws(), seed=3)
    options = {"num_workers": 2, "persistent_workers": persistent, "multiprocessing_context": "fork"}
    loader = DataLoader(rows, batch_size=2, collate_fn=list, **options)
    for epoch in (0, 1):
        rows.set_epoch(epoch)
        loaded = {row[0]: row[1:] for batch in loader for row in batch}
        assert loaded == load(rows, batch_size=3)


def test_the_global_streams_go_on_as_if_nothing_was_drawn():
    def draw():
        return random.random(), np.random.rand(), torch.rand(()).item()

    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(0)
    expected = draw()
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(0)
    rows = SeededRows(Draws(), seed=3)
    assert rows[0][1:] != expected
    rows.__getitems__([1, 2])
    assert draw() == expected


def test_the_streams_are_restored_after_an_error():
    class Broken(Draws):
        def __getitem__(self, row):
            raise OSError("no such clip")

    torch.manual_seed(0)
    before = torch.get_rng_state()
    with pytest.raises(OSError, match="no such clip"):
        SeededRows(Broken(), seed=3)[0]
    assert torch.equal(torch.get_rng_state(), before)
