"""Apply transforms to whole datasets: cached (see `cached_map`), or lazily on streams.

A column that holds stored tensors already, as a prepared data set that was pushed to the Hub, is not computed again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from functools import lru_cache, partial
from typing import Any

import multiprocess
import numpy as np
import torch
from datasets import (
    Audio,
    Dataset,
    DatasetDict,
    Features,
    Image,
    IterableDataset,
    IterableDatasetDict,
    LargeList,
    List,
    Value,
    Video,
    formatting,
)
from datasets.formatting.formatting import CustomFormatter

from ..ground.seams import check_seams
from ..ground.suggestion import NOTHING, registered_names_only
from .cached_map import cached_map
from .corruptions.augmentation import corruptions_among
from .modality_transforms import PROCESSORS, Failure, ModalityTransforms
from .skipped_rows import rows_are_skipped
from .stored_signals import StoredSignals, material_of_split, material_of_stream
from .tensor_storage import (
    SOURCE,
    decode_value,
    encode_value,
    stored_source,
    tensor_features,
    with_guarded_bytes,
)

logger = logging.getLogger(__name__)

STREAM_BATCH_SIZE = 8
FORMAT = "hf_bml"  # name of `PreparedFormatter`
FAILURES = "_failures"  # column of the cached table: JSON, or None for a row without failure
Report = dict[str, list[dict[str, Any]]]


class ProcessedStreams(IterableDatasetDict):
    """Streams of transformed rows, whose columns have no declared types.

    Attributes:
        passed_features: by split, the types of the columns that are passed on as they are, such as labels.
    """

    def __init__(self, splits: Mapping[str, IterableDataset], passed_features: Mapping[str, Features]):
        super().__init__(splits)
        self.passed_features = dict(passed_features)


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


def process_stream(
    dataset: IterableDatasetDict, config: str, training_split: str | None = "train"
) -> ProcessedStreams:
    """See `MultimodalProcessor.apply`: every split is transformed while it is read, and nothing is cached."""
    transforms = transforms_of(config)
    if unfitted := transforms.unfitted:
        raise ValueError(
            f"Expected fitted transforms for a stream, found {unfitted} unfitted: fitting reads the training split "
            "several times. Apply the processor to a DatasetDict of it first, or load a fitted one with "
            "from_pretrained."
        )
    splits, passed = {}, {}
    for name, split in dataset.items():
        if split.column_names is not None:
            check_columns(transforms.by_modality, split.column_names)
        kept = {key: kind for key, kind in (split.features or {}).items() if key not in transforms.by_modality}
        passed[name] = Features(kept)
        arguments = {"config": config, "training": name == training_split}
        if arguments["training"] and transforms.augmentations:
            rows = undecoded(split, transforms.by_modality)
            arguments["config"] = with_material(config, material_of_stream(transforms, rows))
        arguments["integers"] = integer_columns(split.features or {}, transforms.by_modality)
        splits[name] = undecoded(split, transforms.by_modality).map(
            stream_batch,
            batched=True,
            batch_size=STREAM_BATCH_SIZE,
            fn_kwargs=arguments,
            features=Features(),  # of no column: else `datasets` infers types of tensors, which fails, to interleave
        )
        splits[name].info.features = None  # no column is declared, and none is missing
        if transforms.on_error == "raise":  # every row gives one: rows can be counted without being transformed
            splits[name].rows_transformed_at_once = STREAM_BATCH_SIZE
    return ProcessedStreams(splits, passed)


@lru_cache(maxsize=8)
def transforms_of(config: str) -> ModalityTransforms:
    """The transforms that `MultimodalProcessor.to_dict()`, as JSON, describes; one object per process.

    Only a worker imports what the config names: what its main process has registered, or has refused.
    """
    description = json.loads(config)
    with nullcontext() if is_worker() else registered_names_only():
        return ModalityTransforms(
            description["modalities"],
            description.get("on_error", "raise"),
            description.get("signals", ()),
            description.get("material", NOTHING),
        )


def with_material(config: str, material: dict[str, dict[str, str]]) -> str:
    """The config of a training split whose corruptions need something; without need the same as before."""
    return json.dumps({**json.loads(config), "material": material}) if material else config


def with_signals(config: str, modalities: Iterable[str], augmented: Iterable[str] = ()) -> str:
    """The config of a split of which some modalities' signals are stored, to be corrupted; without the corruptions in
    training of those that are `augmented`."""
    description = json.loads(config)
    for name in augmented:
        options = description["modalities"][name]
        own, _ = corruptions_among(options.pop("augment"))
        options |= {} if own is None else {"augment": own}
    return json.dumps({**description, "signals": sorted(modalities)})


@lru_cache(maxsize=8)
def check_registered(config: str) -> None:
    """Raises ValueError, outside of workers, for a type of transform that is not registered: a data set on the disk
    has a config, too, and no file decides what is imported."""
    if not is_worker():
        with registered_names_only():
            for options in json.loads(config)["modalities"].values():
                PROCESSORS.find(options["type"])


def is_worker() -> bool:
    """Whether this process is one that loads or maps data for another."""
    return multiprocess.parent_process() is not None or multiprocessing.parent_process() is not None


def undecoded(split: Dataset | IterableDataset, modalities: Iterable[str]) -> Dataset | IterableDataset:
    """Media columns of the modalities as `{"bytes", "path"}`: transforms decode what they need, and name the file."""
    for name in modalities:
        feature = (split.features or {}).get(name)
        undecoded_feature = _undecoded_feature(feature)
        if undecoded_feature != feature or (stored_source(feature) and isinstance(split, IterableDataset)):
            split = split.cast_column(name, undecoded_feature)
    return split


def integer_columns(features: Mapping[str, Any], modalities: Iterable[str]) -> dict[str, str]:
    """The type of the modalities whose values are 16 or 32 bit samples: read as lists, they would lose it."""
    found = {}
    for name in modalities:
        feature = features.get(name)
        feature = feature.get("array") if isinstance(feature, dict) else feature
        kind = feature.feature if isinstance(feature, List | LargeList) else None
        if isinstance(kind, Value) and kind.dtype in ("int16", "int32"):
            found[name] = kind.dtype
    return found


def typed_batch(batch: dict[str, list], integers: Mapping[str, str]) -> dict[str, list]:
    """The batch with arrays in the place of lists in `integer_columns`."""
    return {
        name: [_typed(value, integers[name]) for value in values] if name in integers else values
        for name, values in batch.items()
    }


def _typed(value: Any, dtype: str) -> Any:
    if isinstance(value, dict):
        return {**value, "array": _typed(value["array"], dtype)}
    return None if value is None else np.asarray(value, dtype=dtype)


def _undecoded_feature(feature: Any) -> Any:
    feature = with_guarded_bytes(feature, guarded=False)
    if isinstance(feature, Audio | Image | Video):
        return type(feature)(decode=False)
    if isinstance(feature, List):
        return List(_undecoded_feature(feature.feature), length=feature.length)
    return feature


def process_split(
    name: str, split: Dataset, config: str, training: bool, num_proc: int | None
) -> tuple[Dataset, list[dict[str, Any]]]:
    """One split in the format that makes tensors of what is stored, and what failed in it; see `process_dataset`."""
    transforms = transforms_of(config)
    check_columns(transforms.by_modality, split.column_names)
    split = split.with_format(None)
    split.info.features = unguarded(split.features, split.features)
    split = undecoded(split, transforms.by_modality)
    storage = {key: _storage(transforms, key, split.features[key]) for key in transforms.by_modality}
    prepared = [modality for modality in storage if stored_source(split.features[modality])]
    for modality in prepared:
        for chunk in split.data.column(modality).chunks:
            check_sources(name, modality, chunk.field(SOURCE).unique().to_pylist(), config)
    stored = [modality for modality, kind in storage.items() if kind != "raw" and modality not in prepared]
    failed: list[dict[str, Any]] = []
    read = stored if transforms.on_error == "raise" else [key for key in storage if key not in prepared]
    if read:
        features = {**split.features, **{key: _stored_features(transforms, key) for key in stored}}
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
        split, failed = _take_failures(name, split)
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
        empty = _rows_without_modality(columns)
        columns[FAILURES] = [
            _failure_record([failure for failure in failures if failure.row == row], is_empty, transforms.on_error)
            for row, is_empty in zip(rows, empty, strict=True)
        ]
    return columns


def read_batch(
    batch: dict[str, list], config: str, storage: dict[str, str], training: bool, integers: dict[str, str]
) -> dict[str, list]:
    """What `PreparedFormatter` returns; `batch` may hold only some columns, as in `dataset["labels"]`."""
    transforms = transforms_of(config)
    columns = {}
    for name, values in typed_batch(batch, integers).items():
        kind = storage.get(name)
        if kind in ("final", "extract", "signal"):
            columns[name] = _read_stored(name, values, transforms, training)
        elif kind == "raw":
            columns[name] = transforms(name, values, training)
        else:
            columns[name] = values
    return columns


class PreparedFormatter(CustomFormatter):
    """The format of prepared data sets: a transform that `datasets` can write to the disk, compare and read again.

    Args:
        config, storage, training, integers: of `read_batch`, JSON-able.
        features: the columns' types.
        options: what `datasets` gives any formatter.
    """

    def __init__(
        self,
        config: str,
        storage: dict[str, str],
        training: bool,
        integers: dict[str, str],
        features: Features | None = None,
        **options: Any,
    ):
        check_registered(config)
        reader = partial(read_batch, config=config, storage=storage, training=training, integers=integers)
        super().__init__(reader, features=None if features is None else unguarded(features, storage), **options)


check_seams("processing")
if FORMAT not in formatting._FORMAT_TYPES:  # a copy of this module may have come with a repository
    formatting._register_formatter(PreparedFormatter, FORMAT)


def unguarded(features: Features, names: Iterable[str]) -> Features:
    """Types of columns, those of the named ones with plain bytes (see `TensorBytes`)."""
    return Features(
        {**features, **{key: with_guarded_bytes(features[key], False) for key in names if key in features}}
    )


def is_made_at_access(dataset: Any) -> bool:
    """Whether a transform makes the rows of a `Dataset` at each access: a processor's, or one of the user's own."""
    return isinstance(dataset, Dataset) and dataset.format["type"] in ("custom", FORMAT)


def may_draw_at_access(dataset: Any) -> bool:
    """Whether rows of a `Dataset` may differ from access to access: not where no transform declares `is_random`."""
    if not is_made_at_access(dataset):
        return False
    options = dataset.format["format_kwargs"]
    return dataset.format["type"] == "custom" or (options["training"] and transforms_of(options["config"]).are_random)


def stream_batch(batch: dict[str, list], config: str, training: bool, integers: dict[str, str]) -> dict[str, list]:
    """`IterableDataset.map` function: transformed columns, without the rows that cannot be used."""
    transforms = transforms_of(config)
    check_columns(transforms.by_modality, list(batch))
    if transforms.on_error == "raise" and rows_are_skipped():
        return {**batch, **{name: [None] * len(batch[name]) for name in transforms.by_modality}}
    batch = typed_batch(batch, integers)
    failures: list[Failure] = []
    names = list(transforms.by_modality)
    columns = {}
    for name in names:
        sources = {stored_source(value) for value in batch[name] if value is not None}
        if sources <= {None}:
            columns[name] = transforms(name, batch[name], training, failures)
        else:
            check_sources(None, name, list(sources), config)
            columns[name] = _read_stored(name, batch[name], transforms, training)
    for failure in failures:
        logger.warning("Modality %r is absent: %s", failure.modality, failure.reason)
    failed = {failure.row for failure in failures} if transforms.on_error == "skip" else set()
    empty = _rows_without_modality(columns) if transforms.on_error != "raise" else []
    dropped = failed | {row for row, is_empty in enumerate(empty) if is_empty}
    kept = [row for row in range(len(batch[names[0]])) if row not in dropped]
    return {name: [values[row] for row in kept] for name, values in {**batch, **columns}.items()}


def _read_stored(name: str, values: list, transforms: ModalityTransforms, training: bool) -> list:
    for value in values:
        if value is not None and not isinstance(value, dict):
            raise ValueError(
                f"modality {name!r}: expected a prepared value, found {type(value).__name__}: map or flatten_indices "
                "has rewritten the tensors. Take this step before the processor is applied, or with "
                "with_format('arrow'), and apply the processor again."
            )
    decoded = [decode_value(value) for value in values]
    kind = _storage(transforms, name)
    if kind == "signal":
        return transforms.from_signals(name, decoded, training)
    return decoded if kind == "final" else transforms.finish(name, decoded, training)


@lru_cache(maxsize=64)
def source_of(name: str, config: str) -> str:
    """Digest of what decides a modality's stored tensors: its part of the processor's config, and the version."""
    description = json.loads(config)
    options = description["modalities"][name]
    if "tokenizer" in options:  # a name on the Hub means its files, whose bytes depend on the versions installed
        options = {key: value for key, value in options.items() if key != "files"}
    stored = ["signal"] if name in description.get("signals", ()) else []
    own = json.dumps([options, description.get("version"), *stored], sort_keys=True)
    return hashlib.sha256(own.encode()).hexdigest()[:16]


def check_sources(split: str | None, name: str, found: list[str | None], config: str) -> None:
    """Raises ValueError where stored tensors of a modality were made by another processor than `config`."""
    expected = source_of(name, config)
    others = [source for source in found if source not in (None, expected)]
    if others:
        raise ValueError(
            f"{f'split {split!r}, ' if split else ''}modality {name!r}: expected tensors that this processor has "
            f"prepared (source {expected}), found those of another one (source {others[0]}). Apply the processor "
            f"that the data set was prepared with, options and version alike, or give the raw column."
        )


def check_columns(expected: dict[str, Any], found: list[str]) -> None:
    """Raises ValueError when a modality's column is missing."""
    missing = [name for name in expected if name not in found]
    if missing:
        raise ValueError(
            f"Expected columns {list(expected)}, found {found}: {missing} missing. "
            "Rename the dataset's columns or the processor's modalities."
        )


def _rows_without_modality(columns: dict[str, list]) -> list[bool]:
    return [all(value is None for value in values) for values in zip(*columns.values(), strict=True)]


def _failure_record(failures: list[Failure], is_empty: bool, on_error: str) -> str | None:
    """JSON of a row's failures and whether the row is dropped; None for a row without failure."""
    failed = [{"modality": failure.modality, "file": failure.file, "reason": failure.reason} for failure in failures]
    if not failed and not is_empty:
        return None
    failed = failed or [{"modality": None, "file": None, "reason": "no modality is present"}]
    return json.dumps({"dropped": is_empty or on_error == "skip", "failures": failed})


def _take_failures(name: str, split: Dataset) -> tuple[Dataset, list[dict[str, Any]]]:
    """Remove the failures' column and the dropped rows."""
    records = [None if text is None else json.loads(text) for text in split.select_columns(FAILURES)[:][FAILURES]]
    split = split.remove_columns(FAILURES)
    failed = [
        {"row": row, **failure, "dropped": record["dropped"]}
        for row, record in enumerate(records)
        if record is not None
        for failure in record["failures"]
    ]
    kept = [row for row, record in enumerate(records) if record is None or not record["dropped"]]
    if records and not kept:
        reasons = "; ".join(sorted({failure["reason"] for failure in failed})[:3])
        raise ValueError(
            f"split {name!r}: expected some usable rows, found that all {len(records)} failed: {reasons}. "
            "Check the data and the processor's options; on_error='raise' stops at the first."
        )
    if len(kept) < len(records):
        split = split.select(kept)
    return split, failed


def _storage(transforms: ModalityTransforms, name: str, feature: Any = None) -> str:
    """What is cached of a modality: its "signal", its deterministic "extract", the "final" tensors, or nothing
    ("raw")."""
    transform = transforms.by_modality[name]
    if transforms.stores_signal(name):
        return "signal"
    if name in transforms.augmentations or name in transforms.signals:
        return "raw"
    if transform.has_extract:  # decoded frames take less room as uint8, and before enlargement
        return "extract"
    if _is_file(feature) and not transform.stores_files:
        return "raw"
    return "raw" if transform.is_random else "final"


def _is_file(feature: Any) -> bool:
    is_path = isinstance(feature, Value) and feature.dtype in ("string", "large_string")
    is_pair = isinstance(feature, dict) and feature.keys() == {"bytes", "path"}
    return is_path or is_pair or isinstance(feature, Audio | Image | Video)


def _stored_features(transforms: ModalityTransforms, name: str) -> Features:
    transform = transforms.by_modality[name]
    if transform.output_keys is None or transforms.stores_signal(name):
        return Features({**tensor_features(), SOURCE: Value("string")})
    return Features({**{key: tensor_features() for key in transform.output_keys}, SOURCE: Value("string")})
