"""Reads streams (`datasets.IterableDataset`) endlessly for training, once for evaluation.

Processes never share a row of a pass: each reads shards of its own if the processes divide their number, and otherwise
every n-th row of all shards. Within a process, workers have shards of their own. Each process and worker begins its
next pass, with other shards, when its part of the last one is done, so none ever waits for another.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import datasets
import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import find_batch_size, recursively_apply
from datasets.distributed import split_dataset_by_node
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ..processing.skipped_rows import skipping_rows
from .seeded_rows import global_streams_kept, seed_global_streams

SKIPPED = None
MAX_EMPTY_PASSES = 10  # of a worker, whose shards of one pass may hold no row of the split


class EndlessStream(IterableDataset):
    """One process's part of a stream, endlessly repeated, each pass in its own order.

    Seed, pass, process and worker decide the order and what the rows' transforms draw from the global random
    streams, which are left as they were: a restarted training sees the same rows.

    Args:
        rows: the whole stream; rows are mixed in the buffer that it was shuffled with, if it was, and its shards
            always.
        seed: of order and draws, >= 0; the seed with which the stream was shuffled is ignored.
        rank: index of the process.
        processes: their number.
        batch_size: of the `DataLoader`.

    Attributes:
        skipped_batches: how many batches to skip at the beginning: SKIPPED replaces their rows, which are
            read, but not transformed if a [`MultimodalProcessor`] was applied last.
    """

    def __init__(
        self, rows: datasets.IterableDataset, seed: int, rank: int = 0, processes: int = 1, batch_size: int = 1
    ):
        self.rows = rows
        self.seed = seed
        self.rank = rank
        self.processes = processes
        self.batch_size = batch_size
        self.skipped_batches = 0

    def __iter__(self) -> Iterator[Any]:
        """Raises ValueError if the stream yields nothing to this process."""
        worker = get_worker_info()
        worker_id, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        to_skip = self.batch_size * len(range(worker_id, self.skipped_batches, workers))  # batches come in turn
        # `process_stream` sets it on what it makes, an object of `datasets`
        at_once = getattr(self.rows, "rows_transformed_at_once", float("inf"))
        rows = split_dataset_by_node(self.rows, self.rank, self.processes)  # with a pass number of its own
        last_full = -1
        for number in itertools.count():
            rows.set_epoch(pass_seed(self.seed, number))
            iterator = iter(rows)
            for index in itertools.count():
                with global_streams_kept(), skipping_rows(to_skip >= at_once):
                    seed_global_streams(self.seed, number, self.rank, worker_id, index)
                    row = next(iterator, None)
                if row is None:
                    break
                last_full = number
                yield SKIPPED if to_skip > 0 else row
                to_skip -= 1
            if number - last_full >= (1 if worker is None else MAX_EMPTY_PASSES):
                raise ValueError(
                    f"train: expected samples in the stream, found none for process {self.rank} of {self.processes}. "
                    "Check its files and, with on_error: skip, the log; or use fewer processes or workers."
                )


def pass_seed(seed: int, number: int) -> int:
    """A number that determines the order of a pass, in [1, 2**31): `set_epoch` of the stream takes it."""
    return int(np.random.SeedSequence((seed, number)).generate_state(1)[0] % (2**31 - 1)) + 1


def collate_unless_skipped(collate: Callable[[list[Any]], Any], rows: list[Any]) -> Any:
    """A batch of an [`EndlessStream`], empty for rows that are skipped."""
    return {} if rows[0] is SKIPPED else collate(rows)


class EvaluationBatches:
    """Batches of a stream that is read once, each process its own part of it, until no process has any left.

    A process that runs out repeats its last batch, which `gather` leaves out, so that all processes take
    part in every collective operation however uneven the parts are.

    Args:
        rows: the whole stream.
        accelerator: of the trainer.
        loader_options: of the `DataLoader`.
    """

    def __init__(self, rows: datasets.IterableDataset, accelerator: Accelerator, **loader_options: Any):
        self.accelerator = accelerator
        part = split_dataset_by_node(rows, accelerator.process_index, accelerator.num_processes)
        self.loader = stream_loader(part, part.num_shards, **loader_options)
        self.counts = [0]  # samples of the current batch, by process

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Raises ValueError, on all processes, if one has no sample at all."""
        batches, batch = iter(self.loader), None
        while True:
            fresh = next(batches, None)
            count = torch.tensor([0 if fresh is None else find_batch_size(fresh)], device=self.accelerator.device)
            self.counts = self.accelerator.gather(count).tolist()
            if batch is None and 0 in self.counts:
                raise ValueError(
                    f"Expected a stream with samples for each of {len(self.counts)} processes to evaluate, found "
                    f"{self.counts} in the first batch. Check its files, or use fewer processes."
                )
            if not any(self.counts):
                return
            batch = batch if fresh is None else fresh
            yield copy.copy(batch)  # of which the caller may take entries out

    def gather(self, data: Any) -> Any:
        """What all processes computed of the current batch, of every sample once; takes tensors `(batch, ...)`."""
        return recursively_apply(self._gather, data)

    def _gather(self, values: Tensor) -> Tensor:
        own, largest = self.counts[self.accelerator.process_index], max(self.counts)
        if len(self.counts) == 1:
            return values[:own]
        padded = values.new_zeros(largest, *values.shape[1:])
        padded[:own] = values[:own]
        parts = self.accelerator.gather(padded).chunk(len(self.counts))
        return torch.cat([part[:count] for part, count in zip(parts, self.counts, strict=True)])


def stream_loader(rows: IterableDataset, num_shards: int, num_workers: int, **options: Any) -> DataLoader:
    """A `DataLoader` with no more workers than there are shards to read."""
    return DataLoader(rows, num_workers=min(num_workers, num_shards), **options)
