"""Random augmentation that depends on seed, epoch and row alone."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset


class SeededRows(Dataset):
    """A dataset whose random transforms give a row the same values in every run.

    A training then sees the same augmentation however many processes and workers load the rows, and wherever it was
    interrupted. (The Trainer restores the random state of a checkpoint, but by then rows beyond it have been loaded.)
    The global streams are restored, so that dropout does not depend on the augmentation either.

    Args:
        dataset: maps a row's number to the row.
        seed: of all draws, >= 0.
    """

    def __init__(self, dataset: Dataset, seed: int):
        self.dataset = dataset
        self.seed = seed
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # workers may outlive an epoch

    def set_epoch(self, epoch: int) -> None:
        """Later epochs draw anew."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, row: int) -> Any:
        return self.__getitems__([row])[0]

    def __getitems__(self, rows: Sequence[int]) -> list[Any]:
        fetched = []
        with global_streams_kept():
            for row in rows:
                seed_global_streams(self.seed, int(self._epoch), row)
                fetched.append(self.dataset[row])
        return fetched


def seed_global_streams(*key: int) -> None:
    """Seeds Python, NumPy and torch (on the CPU) with streams that are independent for different keys."""
    seeds = np.random.SeedSequence(key).generate_state(3)
    random.seed(int(seeds[0]))
    np.random.seed(seeds[1])
    torch.default_generator.manual_seed(int(seeds[2]))


@contextmanager
def global_streams_kept() -> Iterator[None]:
    """Restores the random states of Python, NumPy and torch (on the CPU) at the end."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
