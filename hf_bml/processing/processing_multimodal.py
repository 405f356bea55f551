"""One processor for all modalities of a dataset, described by a plain JSON-able dict."""

import json
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, DatasetDict, IterableDatasetDict
from huggingface_hub import HfApi
from transformers.utils import cached_file

from .collator import MultimodalDataCollator
from .dataset_processing import Report, check_columns, process_dataset, process_stream
from .modality_transforms import ModalityTransforms

CONFIG_NAME = "processor_config.json"
CONFIG_VERSION = 1  # part of every cache fingerprint: raise it when a transform's output changes
HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token")


class MultimodalProcessor:
    """Raw columns -> tensors, one transform per modality.

    A raw media value is a path, `{"bytes", "path"}`, or a decoded array. A video file serves several modalities: give
    it in the audio column too, and its sound track is read.

    Args:
        modalities: `{column: {"type": key of PROCESSORS, **options of that class}}`. The order is kept.
        on_error: What to do with a value that cannot be used (damaged, truncated, empty, without sound track, ...):
            "raise" a ValueError that names the file; "mask" the value as absent (`None`); "skip" the whole row. A row
            without any modality left is skipped in both cases. A silent track is valid audio unless the transform's
            `min_rms` says otherwise.

    Attributes:
        failures: What the last `apply` could not use: `{split: [{"row", "modality", "file", "reason", "dropped"}]}`,
            JSON-able, empty when all went well. Row numbers are those of the dataset given to `apply`.

    Raises:
        ValueError: Unknown type or option (the message names the closest valid one), or a config that is not JSON.

    Example:
        >>> processor = MultimodalProcessor({"sensor": {"type": "features", "input_size": 2}})
        >>> processor({"sensor": [[0.5, 1.0], None], "labels": [1, 0]})
        {'sensor': [tensor([0.5000, 1.0000]), None], 'labels': [1, 0]}
    """

    def __init__(self, modalities: dict[str, dict[str, Any]], on_error: str = "raise"):
        if not modalities:
            raise ValueError("Expected at least one modality, found none. Pass {column: {'type': ...}}.")
        try:
            self.modalities = json.loads(json.dumps(modalities))
        except TypeError as error:
            raise ValueError(
                f"Expected a JSON-able config, found: {error}. Use numbers, strings, lists and dicts."
            ) from error
        self._transforms = ModalityTransforms(self.modalities, on_error)
        self.failures: Report = {}

    @property
    def transforms(self) -> dict[str, Any]:
        """The transform of each modality."""
        return self._transforms.by_modality

    @property
    def on_error(self) -> str:
        """What happens to a value that cannot be used."""
        return self._transforms.on_error

    def fit(self, training_split: Dataset) -> "MultimodalProcessor":
        """A processor whose config holds what its transforms take from the training split, such as a vocabulary.

        Args:
            training_split: Rows with a column for every modality that needs it.

        Returns:
            This processor if nothing needs it, or all has been fitted before.

        Raises:
            ValueError: A column is missing.
        """
        fitted = {}
        for name, transform in self.transforms.items():
            if hasattr(transform, "fit"):
                check_columns({name: transform}, training_split.column_names)
                values = training_split.with_format(None).select_columns([name])[name]
                fitted[name] = {**self.modalities[name], **transform.fit(values)}
        modalities = {**self.modalities, **fitted}
        return self if modalities == self.modalities else type(self)(modalities, self.on_error)

    def __call__(self, samples: dict[str, list], training: bool = False) -> dict[str, list]:
        """Transform a batch of columns.

        Args:
            samples: `{column: list of raw values}`. A `None` value means that the sample lacks the modality. Columns
                that are no modality pass through.
            training: Switch random augmentation on.

        Returns:
            The same columns; modalities hold `Tensor`, `dict[str, Tensor]` or `None` per sample.

        Raises:
            ValueError: A modality's column is missing, or a value is invalid (the message names the modality and the
                file) and `on_error` is "raise".
        """
        check_columns(self.modalities, list(samples))
        return {
            name: self._transforms(name, column, training) if name in self.modalities else column
            for name, column in samples.items()
        }

    def prepare(self, **raw: Any) -> dict[str, Any]:
        """One raw sample -> a batch of one, for `model(**batch)`.

        Args:
            raw: A value per modality, `processor.prepare(audio="clip.mp4", visual="clip.mp4", text="Hello")`. A
                modality that is left out or `None` is absent.

        Returns:
            `{modality: tensor or dict of tensors with a batch axis of 1, or None if absent}`, and, if one is absent,
            "modality_mask", bool (1, modalities).

        Raises:
            ValueError: An unknown modality, no modality, or a value that cannot be used.
        """
        unknown = [name for name in raw if name not in self.modalities]
        if unknown:
            raise ValueError(f"Expected modalities among {list(self.modalities)}, found {unknown}. Correct the names.")
        columns = self({name: [raw.get(name)] for name in self.modalities})
        sample = {name: values[0] for name, values in columns.items()}
        present = [name for name, value in sample.items() if value is not None]
        if not present:
            raise ValueError(
                f"Expected a usable value for at least one of the modalities {list(self.modalities)}, found none."
            )
        batch = MultimodalDataCollator(present)([sample])
        batch = {name: batch.get(name) for name in self.modalities}
        if len(present) < len(self.modalities):
            batch["modality_mask"] = torch.tensor([[name in present for name in self.modalities]])
        return batch

    def apply(
        self,
        dataset: DatasetDict | IterableDatasetDict,
        training_split: str = "train",
        num_proc: int | None = None,
    ) -> DatasetDict | IterableDatasetDict:
        """Make every row of a dataset yield tensors.

        Deterministic modalities are computed once with `Dataset.map` and cached: the fingerprint depends only on the
        data and on this processor's config, so other processes find the cache. A tokenizer counts by its name or
        path. Random modalities are transformed at each access, augmented in `training_split` only: from their cached
        deterministic part where there is one (decoded frames, optical flow), else from the raw value. Media columns
        are read undecoded, so no FFmpeg is needed. Keep raw images in `datasets.Image` columns: nested lists and
        `Array3D` are read several times slower.

        With `on_error` "mask" or "skip", every raw value is tried once, and what failed is in `failures`, whether
        computed now or found in the cache.

        A stream (`IterableDatasetDict`) is transformed while it is read, for data that does not fit on the disk;
        failures are logged. Shuffle it and split it across ranks beforehand:
        `split_dataset_by_node(stream.shuffle(seed=0, buffer_size=1000), rank, world_size)`.

        Args:
            dataset: Splits with one column per modality; other columns (labels) pass through unchanged.
            training_split: The split that is augmented.
            num_proc: Worker processes for `Dataset.map`.

        Returns:
            Splits whose rows hold `Tensor`, `dict[str, Tensor]` or `None` per modality.

        Raises:
            ValueError: Not a `DatasetDict` or `IterableDatasetDict`, a modality's column is missing, a value cannot
                be used and `on_error` is "raise", or no row of a split can be used.
        """
        config = json.dumps(self.to_dict())
        if isinstance(dataset, IterableDatasetDict):
            return process_stream(dataset, config, training_split)
        if not isinstance(dataset, DatasetDict):
            raise ValueError(
                f"Expected a DatasetDict, found {type(dataset).__name__}. Wrap it: DatasetDict({{'train': dataset}})."
            )
        processed, self.failures = process_dataset(dataset, config, training_split, num_proc)
        return processed

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able description, accepted by `from_dict`."""
        return {
            "processor_class": type(self).__name__,
            "version": CONFIG_VERSION,
            "modalities": self.modalities,
            "on_error": self.on_error,
        }

    @classmethod
    def from_dict(cls, config: dict[str, Any]) -> "MultimodalProcessor":
        """Build from `to_dict()`. Raises ValueError when the format version differs."""
        if config.get("version") != CONFIG_VERSION:
            raise ValueError(
                f"Expected processor config version {CONFIG_VERSION}, found {config.get('version')}. "
                "Write the config again with this version of hf_bml."
            )
        return cls(config["modalities"], config.get("on_error", "raise"))

    def save_pretrained(self, save_directory: str | Path, **unused: Any) -> list[str]:
        """Write `processor_config.json` and return its path in a list, as transformers processors do."""
        path = Path(save_directory) / CONFIG_NAME
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self._to_json(), encoding="utf-8")
        return [str(path)]

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, **options: Any) -> "MultimodalProcessor":
        """Read `processor_config.json` from a folder or a Hub repository.

        Args:
            name_or_path: Folder, or repository id.
            options: Those in HUB_OPTIONS (revision, token, ...) concern the download; others, which
                `AutoProcessor.from_pretrained` passes, are ignored.
        """
        hub_options = {key: value for key, value in options.items() if key in HUB_OPTIONS}
        path = cached_file(str(name_or_path), CONFIG_NAME, **hub_options)
        return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
        commit_message: str = "Upload processor",
        create_pr: bool = False,
    ) -> str:
        """Upload `processor_config.json` beside a model on the Hub; the repository is created if need be.

        Returns:
            The URL of the commit.
        """
        api = HfApi(token=token)
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        commit = api.upload_file(
            path_or_fileobj=self._to_json().encode(),
            path_in_repo=CONFIG_NAME,
            repo_id=repo_id,
            revision=revision,
            commit_message=commit_message,
            create_pr=create_pr,
        )
        return str(commit)

    def _to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2) + "\n"
