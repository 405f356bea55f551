"""Apply transforms to streams, lazily."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from datasets import Features, IterableDataset, IterableDatasetDict

from .failures import Failure, rows_without_modality
from .prepared_datasets import read_stored
from .processor_config import check_sources, transforms_of, with_material
from .raw_columns import check_columns, integer_columns, typed_batch, undecoded
from .skipped_rows import rows_are_skipped
from .stored_signals import material_of_stream
from .tensor_storage import stored_source

logger = logging.getLogger(__name__)

STREAM_BATCH_SIZE = 8


class ProcessedStreams(IterableDatasetDict):
    """Streams of transformed rows, whose columns have no declared types.

    Attributes:
        passed_features: by split, the types of the columns that are passed on as they are, such as labels.
    """

    def __init__(self, splits: Mapping[str, IterableDataset], passed_features: Mapping[str, Features]):
        super().__init__(splits)
        self.passed_features = dict(passed_features)


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
            columns[name] = read_stored(name, batch[name], transforms, training)
    for failure in failures:
        logger.warning("Modality %r is absent: %s", failure.modality, failure.reason)
    failed = {failure.row for failure in failures} if transforms.on_error == "skip" else set()
    empty = rows_without_modality(columns) if transforms.on_error != "raise" else []
    dropped = failed | {row for row, is_empty in enumerate(empty) if is_empty}
    kept = [row for row in range(len(batch[names[0]])) if row not in dropped]
    return {name: [values[row] for row in kept] for name, values in {**batch, **columns}.items()}
