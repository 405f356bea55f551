from __future__ import annotations

import pytest
import torch
from tiny import tiny_dataset

from hf_bml.training.held_out import hold_out


def test_held_out_part():
    dataset = tiny_dataset(samples=50)
    rest, held_out = hold_out(dataset, 0.08, seed=3)
    assert (len(rest), len(held_out)) == (46, 4)
    rows = [tuple(row.tolist()) for part in (rest, held_out) for row in part["audio"][:]]
    assert sorted(rows) == sorted(tuple(row.tolist()) for row in dataset["audio"][:])
    again, other = hold_out(dataset, 0.08, seed=3)[1], hold_out(dataset, 0.08, seed=4)[1]
    assert torch.equal(held_out["audio"][:], again["audio"][:])
    assert not torch.equal(held_out["audio"][:], other["audio"][:])


def test_held_out_part_of_a_torch_dataset():
    rest, held_out = hold_out(list(range(10)), 0.3, seed=0)
    assert len(held_out) == 3 and sorted([*rest, *held_out]) == list(range(10))


def test_too_few_samples():
    with pytest.raises(ValueError, match="Holding 8% out of 5 training samples leaves one part empty"):
        hold_out(tiny_dataset(samples=5), 0.08, seed=0)
