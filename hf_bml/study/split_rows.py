"""The rows of a split, decoded and corrupted once for all runs of a command."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset

from ..processing.corruptions import Corruption
from ..processing.decoded_split import DecodedSplit
from .finished_run import FinishedRun
from .run_data import raw_data

KEPT_BYTES = 2**30  # of rows in memory: the runs of a command see the same ones, one run after the other
KEPT_SPLITS = 4
_kept: dict[str, SplitRows] = {}


def split_rows(run: FinishedRun, split: str, seed: int, pairs: Sequence[tuple[str, Corruption]]) -> SplitRows:
    """The rows of a run's split; those of equal processors and data are made once."""
    if run.processor is None:
        return SplitRows(None, run.dataset[split], seed)
    raw = raw_data(run.recipe)
    modalities = list(dict.fromkeys(modality for modality, _ in pairs))

    def decoded() -> DecodedSplit:
        return DecodedSplit(run.processor, raw[split], modalities, raw["train"], run.recipe.data.dataset_num_proc)

    if not isinstance(raw[split], Dataset):
        return SplitRows(decoded(), None, seed)
    data = [raw[name]._fingerprint for name in (split, "train")]
    key = json.dumps([run.processor.to_dict(), data, modalities, seed], default=str)
    if key not in _kept:
        if len(_kept) == KEPT_SPLITS:
            del _kept[next(iter(_kept))]
        _kept[key] = SplitRows(decoded(), None, seed)
    return _kept[key]


class SplitRows:
    """The rows of a split, clean and corrupted; what was made once is kept while there is room for it.

    Args:
        decoded: the split; None where nothing can be corrupted.
        clean: the processed rows, if `decoded` is None.
        seed: of the noise.
    """

    def __init__(self, decoded: DecodedSplit | None, clean: Any, seed: int):
        self._decoded = decoded
        self._seed = seed
        self._values: dict[str, KeptValues] = {}
        self.clean = clean
        if decoded is not None:
            self.clean = Rows(self._kept_values("clean", decoded.clean.__getitem__, len(decoded.clean)))

    def corrupted(self, modality: str, corruption: Corruption) -> Rows:
        """The split with one modality corrupted, see `DecodedSplit.corrupted`."""
        key = json.dumps([modality, corruption.name, corruption.options], default=str)
        rows = self._decoded.corrupted(modality, corruption, self._seed)
        return Rows(self.clean.values, modality, self._kept_values(key, rows.value, len(rows)))

    def _kept_values(self, key: str, make: Callable[[int], Any], count: int) -> KeptValues:
        if key not in self._values:
            self._values[key] = KeptValues(make, count, KEPT_BYTES // KEPT_SPLITS // 16)
        return self._values[key]


class KeptValues:
    """Values by index, made by a function, and kept in memory until they have `most` bytes.

    Args:
        make: from the index to the value.
        count: of the values.
        most: bytes.
    """

    def __init__(self, make: Callable[[int], Any], count: int, most: int):
        self._make = make
        self._values: dict[int, Any] = {}
        self._left = most
        self.count = count

    def __getitem__(self, index: int) -> Any:
        if index in self._values:
            return self._values[index]
        value = self._make(index)
        self._left -= byte_count(value)
        if self._left > 0:
            self._values[index] = value
        return value


@dataclass
class Rows(torch.utils.data.Dataset):
    """Rows of a split, of which one modality may have other values."""

    values: KeptValues
    modality: str = ""
    others: KeptValues | None = None

    def __len__(self) -> int:
        return self.values.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self.values[index]
        return row if self.others is None else {**row, self.modality: self.others[index]}


def byte_count(value: Any) -> int:
    """Bytes of the tensors in a row or a modality's value."""
    if isinstance(value, Mapping):
        return sum(map(byte_count, value.values()))
    return value.numel() * value.element_size() if isinstance(value, torch.Tensor) else 0
