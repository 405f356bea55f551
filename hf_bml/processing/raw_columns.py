"""Columns as they are given: which there must be, media undecoded, and the types that lists would lose."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from datasets import (
    Array2D,
    Array3D,
    Array4D,
    Array5D,
    Audio,
    ClassLabel,
    Dataset,
    Image,
    IterableDataset,
    LargeList,
    List,
    Value,
    Video,
)

from .tensor_storage import stored_source, with_guarded_bytes

ARRAYS = (Array2D, Array3D, Array4D, Array5D)


def check_columns(expected: dict[str, Any], found: list[str]) -> None:
    """Raises ValueError when a modality's column is missing."""
    missing = [name for name in expected if name not in found]
    if missing:
        raise ValueError(
            f"Expected columns {list(expected)}, found {found}: {missing} missing. "
            "Rename the dataset's columns or the processor's modalities."
        )


def undecoded(split: Dataset | IterableDataset, modalities: Iterable[str]) -> Dataset | IterableDataset:
    """Media columns of the modalities as `{"bytes", "path"}`: transforms decode what they need, and name the file."""
    for name in modalities:
        feature = (split.features or {}).get(name)
        undecoded_feature = _undecoded_feature(feature)
        if undecoded_feature != feature or (stored_source(feature) and isinstance(split, IterableDataset)):
            split = split.cast_column(name, undecoded_feature)
    return split


def _undecoded_feature(feature: Any) -> Any:
    feature = with_guarded_bytes(feature, guarded=False)
    if isinstance(feature, Audio | Image | Video):
        return type(feature)(decode=False)
    if isinstance(feature, List):
        return List(_undecoded_feature(feature.feature), length=feature.length)
    return feature


def numeric_rank(feature: Any) -> int | None:
    """How many axes a column of numbers has, 0 for plain numbers; None for text, images, audio and the like."""
    rank = 0
    while isinstance(feature, (List, LargeList)):
        feature, rank = feature.feature, rank + 1
    if isinstance(feature, ARRAYS):
        rank += len(feature.shape)
    is_plain = isinstance(feature, (Value, ClassLabel, *ARRAYS))
    return rank if is_plain and feature.dtype.startswith(("int", "uint", "float", "bool")) else None


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
