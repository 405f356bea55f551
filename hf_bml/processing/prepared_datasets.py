"""Data sets whose columns hold stored tensors: what is stored of a modality, and the format that reads it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from datasets import Audio, Dataset, Features, Image, Value, Video, formatting
from datasets.formatting.formatting import CustomFormatter

from ..ground.seams import check_seams
from .modality_transforms import ModalityTransforms
from .processor_config import check_registered, transforms_of
from .raw_columns import typed_batch
from .tensor_storage import SOURCE, decode_value, tensor_features, with_guarded_bytes

FORMAT = "hf_bml"  # name of `PreparedFormatter`


def storage_of(transforms: ModalityTransforms, name: str, feature: Any = None) -> str:
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


def stored_features(transforms: ModalityTransforms, name: str) -> Features:
    """The column type of a modality's stored tensors."""
    transform = transforms.by_modality[name]
    if transform.output_keys is None or transforms.stores_signal(name):
        return Features({**tensor_features(), SOURCE: Value("string")})
    return Features({**{key: tensor_features() for key in transform.output_keys}, SOURCE: Value("string")})


def read_stored(name: str, values: list, transforms: ModalityTransforms, training: bool) -> list:
    """From stored tensors of a modality to those that a call gives.

    Raises:
        ValueError: what is stored was rewritten.
    """
    for value in values:
        if value is not None and not isinstance(value, dict):
            raise ValueError(
                f"modality {name!r}: expected a prepared value, found {type(value).__name__}: map or flatten_indices "
                "has rewritten the tensors. Take this step before the processor is applied, or with "
                "with_format('arrow'), and apply the processor again."
            )
    decoded = [decode_value(value) for value in values]
    kind = storage_of(transforms, name)
    if kind == "signal":
        return transforms.from_signals(name, decoded, training)
    return decoded if kind == "final" else transforms.finish(name, decoded, training)


def read_batch(
    batch: dict[str, list], config: str, storage: dict[str, str], training: bool, integers: dict[str, str]
) -> dict[str, list]:
    """What `PreparedFormatter` returns; `batch` may hold only some columns, as in `dataset["labels"]`."""
    transforms = transforms_of(config)
    columns = {}
    for name, values in typed_batch(batch, integers).items():
        kind = storage.get(name)
        if kind in ("final", "extract", "signal"):
            columns[name] = read_stored(name, values, transforms, training)
        elif kind == "raw":
            columns[name] = transforms(name, values, training)
        else:
            columns[name] = values
    return columns


def unguarded(features: Features, names: Iterable[str]) -> Features:
    """Types of columns, those of the named ones with plain bytes (see `TensorBytes`)."""
    return Features(
        {**features, **{key: with_guarded_bytes(features[key], False) for key in names if key in features}}
    )


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


def is_made_at_access(dataset: Any) -> bool:
    """Whether a transform makes the rows of a `Dataset` at each access: a processor's, or one of the user's own."""
    return isinstance(dataset, Dataset) and dataset.format["type"] in ("custom", FORMAT)


def may_draw_at_access(dataset: Any) -> bool:
    """Whether rows of a `Dataset` may differ from access to access: not where no transform declares `is_random`."""
    if not is_made_at_access(dataset):
        return False
    options = dataset.format["format_kwargs"]
    return dataset.format["type"] == "custom" or (options["training"] and transforms_of(options["config"]).are_random)
