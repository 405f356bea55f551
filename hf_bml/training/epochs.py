"""`transformers.Trainer` whose epochs follow a plan, number their rows, or repeat each batch in several steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from accelerate.data_loader import SeedableRandomSampler
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import Trainer

from ..modulation import EpochPlan, ModulationStack, Step

ROW, KEEP = "_row", "_keep"  # of a batch on its way to `compute_loss`


class Entry(NamedTuple):
    """What a planned epoch reads next.

    Attributes:
        row: number of the sample.
        keep: the modalities that its joint prediction sees; None for all.
    """

    row: int
    keep: tuple[bool, ...] | None = None


class EpochSampler(Sampler):
    """The rows of an epoch, in an order that depends on seed and epoch alone.

    Args:
        length: of the dataset.
        seed: of the order; None for that of the dataset.
        window: samples of an optimizer step, over all processes.
        times: how often each window is yielded before the next one comes; with more than 1, the last window is left
            out unless it is whole.

    Attributes:
        plan: what `EpochPlan` of the epoch says; None for every row once.
    """

    def __init__(self, length: int, seed: int | None, window: int, times: int = 1):
        self.length, self.window, self.times = length, window, times
        self.plan: EpochPlan | None = None
        self._order = range(length) if seed is None else SeedableRandomSampler(range(length), data_seed=seed)

    def set_epoch(self, epoch: int) -> None:
        """Later epochs have another order."""
        if isinstance(self._order, SeedableRandomSampler):
            self._order.set_epoch(epoch)

    def __len__(self) -> int:
        return self.length if self.times == 1 else self.length // self.window * self.window * self.times

    def __iter__(self) -> Iterator[int | Entry]:
        listed = self.plan is not None and not self.plan.shuffled
        entries = [self._entry(number) for number in (range(self.length) if listed else self._order)]
        if self.times == 1:
            yield from entries
            return
        for start in range(0, self.length // self.window * self.window, self.window):
            for _ in range(self.times):
                yield from entries[start : start + self.window]

    def _entry(self, number: int) -> int | Entry:
        if self.plan is None:
            return number
        keep = None if self.plan.keep is None else tuple(self.plan.keep[number].tolist())
        return Entry(int(self.plan.rows[number]), keep)


class NumberedRows(Dataset):
    """A dataset whose rows, mappings, carry their numbers and the modalities that a plan keeps.

    Args:
        dataset: maps a row's number to the row.
    """

    def __init__(self, dataset: Dataset):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: int | Entry) -> dict[str, Any]:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[int | Entry]) -> list[dict[str, Any]]:
        entries = [key if isinstance(key, Entry) else Entry(key) for key in keys]
        numbers = [entry.row for entry in entries]
        if hasattr(self.dataset, "__getitems__"):  # which PyTorch lets a data set have or not
            rows = self.dataset.__getitems__(numbers)
        else:
            rows = [self.dataset[number] for number in numbers]
        return [{**row, ROW: entry.row, KEEP: entry.keep} for row, entry in zip(rows, entries, strict=True)]


@dataclass
class NumberedCollator:
    """Collates rows without their numbers, then adds the numbers to the batch.

    Args:
        collator: from rows to a batch.
    """

    collator: Callable[[list[Any]], Mapping[str, Any]]

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        plain = [{name: value for name, value in row.items() if name not in (ROW, KEEP)} for row in rows]
        batch = {**self.collator(plain), ROW: torch.tensor([row[ROW] for row in rows])}
        if rows[0][KEEP] is not None:
            batch[KEEP] = torch.tensor([row[KEEP] for row in rows])
        return batch


def check_plan(plan: EpochPlan, length: int, modalities: int, name: str) -> None:
    """Raises ValueError unless a method's plan has an entry for each row, rows that exist, and a mask to match."""
    rows = plan.rows
    if rows.shape != (length,) or rows.dtype != torch.int64 or rows.min() < 0 or rows.max() >= length:
        raise ValueError(
            f"{name}: a plan needs {length} numbers of rows (int64) in [0, {length}), found {tuple(rows.shape)} of "
            f"{rows.dtype} in [{rows.min()}, {rows.max()}]."
        )
    if plan.keep is not None and (plan.keep.shape != (length, modalities) or not plan.keep.any(1).all()):
        raise ValueError(
            f"{name}: a plan's mask needs the shape ({length}, {modalities}) and a modality in every row, found "
            f"{tuple(plan.keep.shape)}."
        )


class PlannedTrainer(Trainer):
    """Reads a training split as the modulations need it.

    Attributes:
        modulation: the modulations.
        numbers_rows: whether batches carry the numbers of their rows, under `ROW`.
        steps_per_batch: optimizer steps for each batch; the whole accumulation window is repeated.
        plans_epochs: whether `make_plan` is asked before every epoch.
        plan_state: the plan of the current epoch, as a checkpoint keeps it; None without.
    """

    modulation: ModulationStack
    numbers_rows = False
    steps_per_batch = 1
    plans_epochs = False
    plan_state: dict[str, Any] | None = None
    _epoch_sampler: EpochSampler | None = None

    def plan_for(self, stack: ModulationStack) -> None:
        """Reads the training split as these modulations need it; no epoch has a plan yet."""
        self.numbers_rows, self.steps_per_batch = stack.needs.rows, stack.needs.steps_per_batch
        self.plans_epochs, self.plan_state = bool(stack.planners), None

    def make_plan(self, epoch: int) -> EpochPlan | None:
        """What an epoch trains on; None for every row once."""
        [planner] = self.modulation.planners
        modalities = self.modulation.modalities
        if not planner.is_active(Step(modalities, step=self.state.global_step, epoch=epoch)):
            return None
        plan = planner.plan_epoch(epoch)
        if plan is not None:
            check_plan(plan, len(self.train_dataset), len(modalities), planner.name)
        return plan

    def window(self, batch_size: int) -> int:
        """Samples of an optimizer step, over all processes; with `split_batches` they share one batch."""
        processes = 1 if self.accelerator.split_batches else self.accelerator.num_processes
        return batch_size * self.args.gradient_accumulation_steps * processes

    def _get_dataloader(self, dataset: Dataset, description: str, batch_size: int, *args: Any, **kwargs: Any) -> Any:
        self._epoch_sampler = None if kwargs.get("is_training") else self._epoch_sampler
        orders_rows = self.plans_epochs or self.steps_per_batch > 1
        if not kwargs.get("is_training") or not (orders_rows or self.numbers_rows):
            return super()._get_dataloader(dataset, description, batch_size, *args, **kwargs)
        if orders_rows:
            is_random = self.args.train_sampling_strategy == "random"
            seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
            window = self.window(batch_size)
            sampler = EpochSampler(len(dataset), seed if is_random else None, window, self.steps_per_batch)
            self._epoch_sampler = sampler
            kwargs["sampler_fn"] = lambda _: sampler
        else:
            sampler_fn, unnumbered = kwargs["sampler_fn"], dataset
            kwargs["sampler_fn"] = lambda _: sampler_fn(unnumbered)
        rows = NumberedRows(self._remove_unused_columns(dataset, description))
        return super()._get_dataloader(rows, description, batch_size, *args, **kwargs)

    def _get_collator_with_removed_columns(self, data_collator: Any, description: str | None = None) -> Any:
        collator = super()._get_collator_with_removed_columns(data_collator, description)
        numbered = description == "Training" and (self.numbers_rows or self.plans_epochs or self.steps_per_batch > 1)
        return NumberedCollator(collator) if numbered else collator

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        epoch = kwargs["epoch"]
        if self._epoch_sampler is not None:
            self._epoch_sampler.set_epoch(epoch)
            if self.plans_epochs:
                if self.plan_state is None or self.plan_state["epoch"] != epoch:
                    plan = self.make_plan(epoch)
                    self.plan_state = {"epoch": epoch, **({} if plan is None else vars(plan))}
                self._epoch_sampler.plan = plan_of(self.plan_state)
        super()._run_epoch(*args, **kwargs)


def plan_of(state: Mapping[str, Any]) -> EpochPlan | None:
    """The plan of a checkpoint, on the CPU; None if its epoch has none."""
    if "rows" not in state:
        return None
    keep = None if state["keep"] is None else state["keep"].cpu()
    return EpochPlan(state["rows"].cpu(), keep, state.get("shuffled", True))


def rows_of(loader: Any) -> Any:
    """The data set that a loader reads, without the numbers of its rows; None if a user's own loader has none."""
    rows = getattr(loader, "dataset", None)  # as the Trainer asks
    return rows.dataset if isinstance(rows, NumberedRows) else rows


def loader_of(trainer: Trainer, dataset: Dataset) -> DataLoader:
    """Every sample of a dataset once, in order, even if the training drops its last batch."""
    drop_last, trainer.args.dataloader_drop_last = trainer.args.dataloader_drop_last, False
    try:
        return trainer.get_test_dataloader(dataset)
    finally:
        trainer.args.dataloader_drop_last = drop_last
