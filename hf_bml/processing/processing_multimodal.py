"""One processor for all modalities of a dataset, described by a plain JSON-able dict."""

import inspect
import json
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from datasets import Audio, DatasetDict, Features
from torch import Tensor
from transformers.utils import cached_file

from ..suggestion import did_you_mean
from .features import FeatureVector
from .frames import FrameTransform
from .spectrogram import LogSpectrogram
from .tensor_storage import decode_value, encode_value, tensor_features
from .text import Tokenize

PROCESSORS = {
    "log_spectrogram": LogSpectrogram,
    "frames": FrameTransform,
    "features": FeatureVector,
    "tokens": Tokenize,
}
CONFIG_NAME = "processor_config.json"
CONFIG_VERSION = 1  # part of every cache fingerprint: raise it when a transform's output changes
MAP_BATCH_SIZE = 64


class MultimodalProcessor:
    """Raw columns -> tensors, one transform per modality.

    Args:
        modalities: `{column: {"type": key of PROCESSORS, **options of that class}}`. The order is kept.

    Raises:
        ValueError: Unknown type or option (the message names the closest valid one), or a config that is not JSON.

    Example:
        >>> processor = MultimodalProcessor({"sensor": {"type": "features", "input_size": 2}})
        >>> processor({"sensor": [[0.5, 1.0], None], "labels": [1, 0]})
        {'sensor': [tensor([0.5000, 1.0000]), None], 'labels': [1, 0]}
    """

    def __init__(self, modalities: dict[str, dict[str, Any]]):
        if not modalities:
            raise ValueError("Expected at least one modality, found none. Pass {column: {'type': ...}}.")
        try:
            self.modalities = json.loads(json.dumps(modalities))
        except TypeError as error:
            raise ValueError(
                f"Expected a JSON-able config, found: {error}. Use numbers, strings, lists and dicts."
            ) from error
        self.transforms = {name: _build_transform(name, config) for name, config in self.modalities.items()}

    def __call__(self, samples: dict[str, list], training: bool = False) -> dict[str, list]:
        """Transform a batch of columns.

        Args:
            samples: `{column: list of raw values}`. A `None` value means that the sample lacks the modality. Columns
                that are no modality pass through.
            training: Switch random augmentation on.

        Returns:
            The same columns; modalities hold `Tensor`, `dict[str, Tensor]` or `None` per sample.

        Raises:
            ValueError: A modality's column is missing, or a value is invalid (the message names modality and sample).
        """
        _check_columns(self.modalities, list(samples))
        return {
            name: self.transform(name, column, training) if name in self.modalities else column
            for name, column in samples.items()
        }

    def transform(
        self, name: str, values: list, training: bool = False, rows: Sequence[int] | None = None
    ) -> list[Tensor | dict[str, Tensor] | None]:
        """Transform the values of one modality; `None` stays `None`.

        Args:
            name: The modality.
            values: Raw values.
            training: Switch random augmentation on.
            rows: Row of every value in its dataset, for errors; by default they count the values.
        """
        present = [index for index, value in enumerate(values) if value is not None]
        transformed: list = [None] * len(values)
        transform = self.transforms[name]
        try:
            results = transform([values[index] for index in present], training=training)
        except ValueError as error:
            bad = next((index for index in present if not _is_valid(transform, values[index])), None)
            where = "" if bad is None else f", sample {bad}" if rows is None else f", row {rows[bad]}"
            raise ValueError(f"modality {name!r}{where}: {error}") from error
        for index, result in zip(present, results, strict=True):
            transformed[index] = result
        return transformed

    def apply(self, dataset: DatasetDict, training_split: str = "train", num_proc: int | None = None) -> DatasetDict:
        """Make every row of a dataset yield tensors.

        Deterministic modalities are computed once with `Dataset.map` and cached: the fingerprint depends only on the
        data and on this processor's config, so other processes find the cache. A tokenizer counts by its name or
        path. Random modalities stay raw and are transformed at each access, augmented in `training_split` only.
        Audio columns are read undecoded, so no FFmpeg is needed. Keep raw images in `datasets.Image` columns: nested
        lists and `Array3D` are read several times slower.

        Args:
            dataset: Splits with one column per modality; other columns (labels) pass through unchanged.
            training_split: The split that is augmented.
            num_proc: Worker processes for `Dataset.map`.

        Returns:
            Splits whose rows hold `Tensor`, `dict[str, Tensor]` or `None` per modality.

        Raises:
            ValueError: Not a `DatasetDict`, a modality's column is missing, or a value is invalid (the message names
                split, modality and row).
        """
        if not isinstance(dataset, DatasetDict):
            raise ValueError(
                f"Expected a DatasetDict, found {type(dataset).__name__}. Wrap it: DatasetDict({{'train': dataset}})."
            )
        stored = [name for name, transform in self.transforms.items() if not transform.is_random]
        config = json.dumps(self.to_dict())
        splits = {}
        for split_name, split in dataset.items():
            _check_columns(self.modalities, split.column_names)
            split = split.with_format(None)
            for name in self.modalities:
                if isinstance(split.features[name], Audio):
                    split = split.cast_column(name, Audio(decode=False))
            if stored:
                features = Features(
                    {**split.features, **{name: _stored_features(self.transforms[name]) for name in stored}}
                )
                try:
                    split = split.map(
                        store_batch,
                        with_indices=True,
                        batched=True,
                        batch_size=MAP_BATCH_SIZE,
                        writer_batch_size=MAP_BATCH_SIZE,
                        features=features,
                        fn_kwargs={"config": config, "stored": stored},
                        num_proc=num_proc,
                        desc=f"Processing {', '.join(stored)} ({split_name})",
                    )
                except ValueError as error:
                    raise ValueError(f"split {split_name!r}, {error}") from error
            training = split_name == training_split
            splits[split_name] = split.with_transform(
                partial(read_batch, config=config, stored=stored, training=training)
            )
        return DatasetDict(splits)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able description, accepted by `from_dict`."""
        return {"version": CONFIG_VERSION, "modalities": self.modalities}

    @classmethod
    def from_dict(cls, config: dict[str, Any]) -> "MultimodalProcessor":
        """Build from `to_dict()`. Raises ValueError when the format version differs."""
        if config.get("version") != CONFIG_VERSION:
            raise ValueError(
                f"Expected processor config version {CONFIG_VERSION}, found {config.get('version')}. "
                "Write the config again with this version of hf_bml."
            )
        return cls(config["modalities"])

    def save_pretrained(self, save_directory: str | Path) -> list[str]:
        """Write `processor_config.json` and return its path in a list, as transformers processors do."""
        path = Path(save_directory) / CONFIG_NAME
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")
        return [str(path)]

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, **hub_options: Any) -> "MultimodalProcessor":
        """Read `processor_config.json` from a folder or a Hub repository (`hub_options`: revision, token, ...)."""
        path = cached_file(str(name_or_path), CONFIG_NAME, **hub_options)
        return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))


def store_batch(batch: dict[str, list], rows: list[int], config: str, stored: list[str]) -> dict[str, list]:
    """`Dataset.map` function: encoded tensors of the modalities in `stored`."""
    processor = _processor(config)
    return {
        name: [encode_value(value) for value in processor.transform(name, batch[name], rows=rows)] for name in stored
    }


def read_batch(batch: dict[str, list], config: str, stored: list[str], training: bool) -> dict[str, list]:
    """`Dataset.with_transform` function; `batch` may hold only some columns, as in `dataset["labels"]`."""
    processor = _processor(config)
    columns = {}
    for name, values in batch.items():
        if name in stored:
            columns[name] = [decode_value(value) for value in values]
        elif name in processor.modalities:
            columns[name] = processor.transform(name, values, training)
        else:
            columns[name] = values
    return columns


@lru_cache(maxsize=8)
def _processor(config: str) -> MultimodalProcessor:
    return MultimodalProcessor.from_dict(json.loads(config))


def _build_transform(name: str, config: dict[str, Any]) -> Any:
    if not isinstance(config, dict) or "type" not in config:
        raise ValueError(
            f"modality {name!r}: expected a dict with 'type', found {config!r}. Add one of {sorted(PROCESSORS)}."
        )
    options = {key: value for key, value in config.items() if key != "type"}
    if config["type"] not in PROCESSORS:
        raise ValueError(f"modality {name!r}: {_unknown('type', config['type'], list(PROCESSORS))}")
    processor = PROCESSORS[config["type"]]
    valid = list(inspect.signature(processor).parameters)
    for option in options:
        if option not in valid:
            raise ValueError(f"modality {name!r}: {_unknown(config['type'] + ' option', option, valid)}")
    try:
        return processor(**options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"modality {name!r}: {error}") from error


def _is_valid(transform: Any, value: Any) -> bool:
    try:
        transform([value])
    except ValueError:
        return False
    return True


def _unknown(kind: str, found: Any, valid: list[str]) -> str:
    return f"expected {kind} among {valid}, found {found!r}.{did_you_mean(found, valid)}"


def _check_columns(expected: dict[str, Any], found: list[str]) -> None:
    missing = [name for name in expected if name not in found]
    if missing:
        raise ValueError(
            f"Expected columns {list(expected)}, found {found}: {missing} missing. "
            "Rename the dataset's columns or the processor's modalities."
        )


def _stored_features(transform: Any) -> Features:
    if transform.output_keys is None:
        return tensor_features()
    return Features({key: tensor_features() for key in transform.output_keys})
