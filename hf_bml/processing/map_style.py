"""Apply transforms to data sets with a length, cached (see `cached_map`).

A column that holds stored tensors already, as a prepared data set that was pushed to the Hub, is not computed again.
"""

from __future__ import annotations

from typing import Any

import torch
from datasets import Dataset, DatasetDict, Features, Value

from .cached_map import cached_map
from .failures import FAILURES, Failure, Report, failure_record, rows_without_modality, take_failures
from .prepared_datasets import FORMAT, storage_of, stored_features, unguarded
from .processor_config import check_sources, is_worker, source_of, transforms_of, with_material
from .raw_columns import check_columns, integer_columns, typed_batch, undecoded
from .stored_signals import StoredSignals, material_of_split
from .tensor_storage import SOURCE, encode_value, stored_source, with_guarded_bytes


def process_dataset(
    dataset: DatasetDict, config: str, training_split: str | None = "train", num_proc: int | None = None
) -> tuple[DatasetDict, Report]:
    """See `MultimodalProcessor.apply`.

    Args:
        dataset: the splits.
        config: `MultimodalProcessor.to_dict()` as JSON; with the data, it decides the cache's fingerprint.
        training_split: the split that is augmented; None for none.
        num_proc: worker processes.

    Returns:
        the splits, and what failed, by split.
    """
    splits, report = {}, {}
    for name, split in dataset.items():
        splits[name], report[name] = process_split(name, split, config, name == training_split, num_proc)
    return DatasetDict(splits), {name: failed for name, failed in report.items() if failed}


def process_split(
    name: str, split: Dataset, config: str, training: bool, num_proc: int | None
) -> tuple[Dataset, list[dict[str, Any]]]:
    """One split in the format that makes tensors of what is stored, and what failed in it; see `process_dataset`."""
    transforms = transforms_of(config)
    check_columns(transforms.by_modality, split.column_names)
    split = split.with_format(None)
    split.info.features = unguarded(split.features, split.features)
    split = undecoded(split, transforms.by_modality)
    storage = {key: storage_of(transforms, key, split.features[key]) for key in transforms.by_modality}
    prepared = [modality for modality in storage if stored_source(split.features[modality])]
    for modality in prepared:
        for chunk in split.data.column(modality).chunks:
            check_sources(name, modality, chunk.field(SOURCE).unique().to_pylist(), config)
    stored = [modality for modality, kind in storage.items() if kind != "raw" and modality not in prepared]
    failed: list[dict[str, Any]] = []
    read = stored if transforms.on_error == "raise" else [key for key in storage if key not in prepared]
    if read:
        features = {**split.features, **{key: stored_features(transforms, key) for key in stored}}
        if transforms.on_error != "raise":
            features[FAILURES] = Value("string")
        try:
            split = cached_map(
                split,
                store_batch,
                {
                    "config": config,
                    "storage": {**storage, **dict.fromkeys(prepared, "prepared")},
                    "integers": integer_columns(split.features, storage),
                },
                Features(features),
                [key for key in read if transforms.by_modality[key].reads_files],
                num_proc,
                desc=f"Processing {', '.join(stored or storage)} ({name})",
            )
        except ValueError as error:
            raise ValueError(f"split {name!r}, {error}") from error
    if FAILURES in split.column_names:
        split, failed = take_failures(name, split)
    integers = integer_columns(split.features, [key for key, kind in storage.items() if kind == "raw"])
    if training and transforms.augmentations:
        signals = {
            key: StoredSignals(split, key, range(len(split)), len(split))
            for key in transforms.augmentations
            if transforms.stores_signal(key)
        }
        config = with_material(config, material_of_split(transforms, signals, split._fingerprint))
    split = split.with_format(FORMAT, config=config, storage=storage, training=training, integers=integers)
    for modality in (*stored, *prepared):
        split.info.features[modality] = with_guarded_bytes(split.features[modality])
    return split, failed


def store_batch(
    batch: dict[str, list], rows: list[int], config: str, storage: dict[str, str], integers: dict[str, str]
) -> dict[str, list]:
    """`Dataset.map` function: encoded tensors of the modalities that are stored, and what failed."""
    if is_worker():  # a fork has none of its parent's OpenMP threads, and waits for them
        torch.set_num_threads(1)
    transforms = transforms_of(config)
    failures: list[Failure] = []
    batch = typed_batch(batch, integers)
    columns = {}
    for name, kind in storage.items():
        if kind == "prepared":
            columns[name] = batch[name]
        elif kind == "final":
            values = transforms(name, batch[name], failures=failures, rows=rows)
            columns[name] = [encode_value(value, source_of(name, config)) for value in values]
        elif kind in ("extract", "signal"):
            store = transforms.extract if kind == "extract" else transforms.read
            values = store(name, batch[name], failures, rows)
            columns[name] = [encode_value(value, source_of(name, config)) for value in values]
        elif transforms.on_error != "raise":  # try each value once, to know beforehand
            tried = transforms(name, batch[name], failures=failures, rows=rows)
            columns[name] = [None if t is None else raw for t, raw in zip(tried, batch[name], strict=True)]
    if transforms.on_error != "raise":
        empty = rows_without_modality(columns)
        columns[FAILURES] = [
            failure_record([failure for failure in failures if failure.row == row], is_empty, transforms.on_error)
            for row, is_empty in zip(rows, empty, strict=True)
        ]
    return columns
