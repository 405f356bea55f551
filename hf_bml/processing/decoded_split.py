"""A raw split, decoded once, and any number of corrupted copies of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

import torch
from datasets import Dataset, IterableDataset
from datasets.fingerprint import Hasher
from torch import Tensor

from .cached_map import file_states
from .corruptions.base import Corruption, Surroundings, row_generator
from .corruptions.registry import check_corruptible
from .corruptions.vector import training_std
from .kept_files import remembered_state, stored_state
from .map_style import process_split
from .prepared_datasets import is_made_at_access
from .processor import MultimodalProcessor
from .processor_config import source_of, transforms_of, with_signals
from .raw_columns import integer_columns, typed_batch, undecoded
from .stored_signals import StoredSignals
from .tensor_storage import stored_source

READ_AT_ONCE = 64  # rows of the training split, to learn the spread of its features


class DecodedSplit:
    """A raw split whose signals are decoded once and kept on the disk, so that many corruptions cost one decoding.

    What is decoded is cached as `MultimodalProcessor.apply` caches it: the runs of a comparison whose processors agree
    share it. Memory does not grow with the split. A stream is written to a temporary folder first, which lasts as long
    as this object: give it `stream.take(1000)` if it is long.

    A row's number in the raw split, the seed, the modality and the kind of corruption decide all draws, so every model
    sees the same noise, in any order, with any number of processes and workers; the severities of one kind share their
    draws. Rows that `on_error` drops do not shift the others' numbers.

    Under a launcher, build it in `with args.main_process_first():`, so that one process decodes.

    Args:
        processor: fitted; its augmentation in training is left out.
        split: rows as they were before `processor.apply`, in `Dataset` or `IterableDataset`.
        modalities: those to be corrupted; default: all that have a signal.
        train: the raw training split, which `feature_noise` learns the spread of the features from.
        num_proc: worker processes that decode.

    Attributes:
        clean: the processed split, as `processor.apply` gives it for evaluation, in order.
        rows: the number in the raw split of each row of `clean`.
        failures: what could not be used, as `MultimodalProcessor.failures` has it for one split.

    Raises:
        ValueError: an unfitted processor, a split that was processed already, a modality that it lacks or whose
            transform declares no signal, or a value that cannot be used.

    Example:
        >>> processor = MultimodalProcessor({"text": {"type": "words", "vocabulary": ["it", "is", "here"]}})
        >>> split = DecodedSplit(processor, Dataset.from_dict({"text": ["it is here"], "labels": [0]}))
        >>> from hf_bml.processing.corruptions import build_corruption
        >>> noisy = split.corrupted("text", build_corruption("word_drop", {"fraction": 0.3}))
        >>> len(noisy[0]["text"]["input_ids"]), noisy[0]["labels"]
        (2, 0)
    """

    def __init__(
        self,
        processor: MultimodalProcessor,
        split: Dataset | IterableDataset,
        modalities: Sequence[str] | None = None,
        train: Dataset | IterableDataset | None = None,
        num_proc: int | None = None,
    ):
        if unfitted := processor.unfitted:
            raise ValueError(
                f"expected a fitted processor, found {unfitted} unfitted. Apply it to the training split."
            )
        if is_made_at_access(split):
            raise ValueError("expected the raw split, found one that a processor was applied to. Give it as it was.")
        declared = [name for name, transform in processor.transforms.items() if transform.signal is not None]
        for name in modalities or ():
            if name not in declared:
                raise ValueError(
                    f"expected modalities whose transforms declare a signal, out of {declared}, found {name!r}. "
                    "Correct it, or split the transform's `__call__` into `read` and `from_signal`."
                )
        self.modalities = declared if modalities is None else list(modalities)
        # what else would be decoded at every access is stored, too
        stored = {*self.modalities, *(name for name in declared if processor.transforms[name].is_random)}
        self._config = with_signals(json.dumps(processor.to_dict()), stored, processor.augmentations)
        self._train = train
        self._spreads: dict[str, Tensor] = {}
        self._folder: TemporaryDirectory | None = None
        if isinstance(split, IterableDataset):
            self._folder = TemporaryDirectory(prefix="hf_bml_stream_")
            stream = undecoded(split, processor.modalities)
            split = Dataset.from_generator(
                _rows_of, stream.features, gen_kwargs={"stream": stream}, cache_dir=self._folder.name
            )
        prepared = [name for name in self.modalities if stored_source((split.features or {}).get(name))]
        if prepared:
            raise ValueError(f"expected raw values of {prepared}, found prepared tensors. Give the raw split.")
        self.clean, self.failures = process_split("corrupted", split, self._config, False, num_proc)
        dropped = {failure["row"] for failure in self.failures if failure["dropped"]}
        self.rows = [row for row in range(len(split)) if row not in dropped]
        self._signals = {name: StoredSignals(self.clean, name, self.rows, len(split)) for name in self.modalities}

    def corrupted(self, modality: str, corruption: Corruption, seed: int = 0) -> CorruptedRows:
        """The split with one modality corrupted, row by row as in `clean`.

        Raises:
            ValueError: a modality that is not among `modalities`, a corruption that does not fit it, or one that needs
                the training split where none was given.
        """
        if modality not in self.modalities:
            raise ValueError(f"expected one of the modalities {self.modalities}, found {modality!r}. Correct it.")
        transform = transforms_of(self._config).by_modality[modality]
        check_corruptible(modality, transform, corruption.name, corruption.signal)
        around = Surroundings(
            transform.sampling_rate,
            self._signals[modality] if "others" in corruption.needs else (),
            self._std(modality) if "std" in corruption.needs else None,
        )
        return CorruptedRows(
            self.clean, self._signals[modality], self.rows, modality, corruption, seed, around, self._config
        )

    def _std(self, modality: str) -> Tensor:
        if self._train is None:
            raise ValueError(
                f"modality {modality!r}: feature_noise needs the spread of the features in training, found no "
                "training split. Give `train`, the raw training split."
            )
        if modality not in self._spreads:
            self._spreads[modality] = training_spread(self._config, self._train, modality)
        return self._spreads[modality]


@dataclass(eq=False)
class CorruptedRows(torch.utils.data.Dataset):
    """Rows of a [`DecodedSplit`] with one modality corrupted, made at each access; see `DecodedSplit.corrupted`.

    A row is what the processor gives: `{modality: Tensor, dict of tensors or None, other columns as they are}`.
    """

    clean: Dataset
    signals: StoredSignals
    rows: Sequence[int]
    modality: str
    corruption: Corruption
    seed: int
    around: Surroundings
    config: str

    def __post_init__(self) -> None:
        self._others = self.clean.select_columns([name for name in self.clean.column_names if name != self.modality])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        indices = [range(len(self))[index] for index in indices]
        columns = self._others[indices] if self._others.column_names else {}
        columns = {**columns, self.modality: [self.value(index) for index in indices]}
        return [{name: values[i] for name, values in columns.items()} for i in range(len(indices))]

    def value(self, index: int) -> Tensor | dict[str, Tensor] | None:
        """The modality's tensors of one row."""
        row = self.rows[index]
        signal = self.signals[row]
        if signal is None:
            return None
        rng = row_generator(self.seed, self.corruption.name, self.modality, row)
        worse = self.corruption(signal, rng, self.around)
        return transforms_of(self.config).by_modality[self.modality].from_signal(worse)


def corrupted_datasets(
    processor: MultimodalProcessor,
    split: Dataset | IterableDataset,
    corruptions: Sequence[tuple[str, Corruption]],
    seed: int = 0,
    train: Dataset | IterableDataset | None = None,
    num_proc: int | None = None,
) -> Iterator[tuple[str, Corruption, CorruptedRows]]:
    """One data set for each corruption of a modality, of a split that is decoded once; see [`DecodedSplit`].

    Args:
        processor, split, train, num_proc: see [`DecodedSplit`].
        corruptions: pairs of a modality and its corruption, such as `default_corruptions(processor.transforms)`.
        seed: of all draws.

    Yields:
        (modality, corruption, rows): rows in the order of the split, for `Trainer.predict` or a `DataLoader` with
        [`MultimodalDataCollator`]. Of a stream, use each before the generator ends.

    Raises:
        ValueError: as [`DecodedSplit`] and its `corrupted`.
    """
    decoded = DecodedSplit(processor, split, list(dict.fromkeys(name for name, _ in corruptions)), train, num_proc)
    for modality, corruption in corruptions:
        yield modality, corruption, decoded.corrupted(modality, corruption, seed)


def training_spread(config: str, train: Dataset | IterableDataset, modality: str) -> Tensor:
    """`training_std` of a modality's vectors in the raw training split; found in the cache for a `Dataset`.

    Args:
        config: of `with_signals`.
        train: raw; what cannot be used is left out if the processor's `on_error` is "mask" or "skip".
        modality: whose signal is a vector.
    """
    rows = undecoded(train.with_format(None) if isinstance(train, Dataset) else train, [modality])
    if isinstance(train, IterableDataset):
        return training_std(_signals_of(config, rows, modality))
    source = source_of(modality, config)
    key = Hasher.hash([train._fingerprint, modality, source, file_states(rows.select_columns([modality]), [modality])])
    signals = _signals_of(config, rows.select_columns([modality]), modality)
    return stored_state(remembered_state(key, lambda: {"std": training_std(signals)}))["std"]


def _signals_of(config: str, rows: Dataset | IterableDataset, modality: str) -> Iterator[Tensor | None]:
    integers = integer_columns(rows.features or {}, [modality])
    for batch in rows.iter(READ_AT_ONCE):
        values = typed_batch({modality: batch[modality]}, integers)[modality]
        yield from transforms_of(config).read(modality, values, failures=[])


def _rows_of(stream: IterableDataset) -> Iterator[dict[str, Any]]:
    yield from stream
