"""One processor for all modalities of a dataset, described by a plain JSON-able dict."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from datasets import DatasetDict, IterableDatasetDict
from huggingface_hub import HfApi
from safetensors.torch import load_file, save_file
from transformers.utils import cached_file

from ..ground.repository_code import keep_code
from ..ground.suggestion import registered_names_only
from .collator import collate_present
from .corruptions.augmentation import Augmentation
from .failures import Report
from .fitting import fit_modality
from .kept_files import keep_files, kept_files, store_state, stored_state
from .map_style import process_dataset
from .modality_transforms import PROCESSORS, ModalityTransforms
from .raw_columns import check_columns
from .streaming import process_stream
from .transforms.base import Transform

CONFIG_NAME = "processor_config.json"
STATE_NAME = "processor_state.safetensors"  # of fitted transforms: tensors "<modality>.<name>"
CONFIG_VERSION = 2  # part of every cache fingerprint: raise it when a transform's output changes
HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token")


class MultimodalProcessor:
    """Raw columns -> tensors, one transform per modality.

    A raw media value is a path, `{"bytes", "path"}`, or a decoded array. A video file serves several modalities: give
    it in the audio column too, and its sound track is read.

    Args:
        modalities: `{column: {"type": key of PROCESSORS or "package.module:Name", **options of that class}}` (see
            [`Transform`]). The order is kept. `augment: {corruption: options, ..., p: probability}` corrupts raw
            signals of the training split, see `hf_bml.processing.corruptions`: `{white_noise: {snr: [0, 20]}, p:
            0.5}` adds noise to half of the clips, at a ratio drawn from that range at each access; of several
            corruptions one is drawn. Where `augment` is an option of the type as well, give a list:
            `[crop_flip, {blur: {fraction: [0.02, 0.08]}, p: 0.5}]`.
        on_error: What to do with a value that cannot be used (damaged, truncated, empty, without sound track, ...):
            "raise" a ValueError that names the file; "mask" the value as absent (`None`); "skip" the whole row. A row
            without any modality left is skipped in both cases. A silent track is valid audio unless the transform's
            `min_rms` says otherwise.

    Attributes:
        failures: what the last `apply` could not use: `{split: [{"row", "modality", "file", "reason", "dropped"}]}`,
            JSON-able, empty when all went well. Row numbers are those of the dataset given to `apply`.

    Raises:
        ValueError: unknown type or option (the message names the closest valid one), or a config that is not JSON.

    Example:
        >>> processor = MultimodalProcessor({"sensor": {"type": "features", "input_size": 2}})
        >>> processor({"sensor": [[0.5, 1.0], None], "labels": [1, 0]})
        {'sensor': [tensor([0.5000, 1.0000]), None], 'labels': [1, 0]}
    """

    _auto_class: ClassVar[str | None] = None
    _origin: tuple[str, dict[str, str]] | None = None  # where a loaded one is from, and its `auto_map`

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
        self._keep_files()
        self.failures: Report = {}

    def _keep_files(self) -> None:
        for name, transform in self.transforms.items():
            options, source = self.modalities[name], transform.source_option
            if source is not None and "files" not in options:
                with TemporaryDirectory() as folder:
                    transform.save_files(Path(folder))
                    options["files"] = keep_files(Path(folder))
                if Path(options[source]).is_dir():  # a place that others do not have
                    del options[source]

    @property
    def transforms(self) -> dict[str, Transform]:
        """The transform of each modality."""
        return self._transforms.by_modality

    @property
    def model_input_names(self) -> list[str]:
        """The modalities, as the Trainer asks any processor."""
        return list(self.modalities)

    @property
    def on_error(self) -> str:
        """What happens to a value that cannot be used."""
        return self._transforms.on_error

    @property
    def pad_token_id(self) -> int:
        """What a collator pads token ids with: the tokenizer's padding; 0 without one or where several differ."""
        found = {t.pad_token_id for t in self.transforms.values() if t.pad_token_id is not None}
        return found.pop() if len(found) == 1 else 0

    def __call__(self, samples: dict[str, list], training: bool = False) -> dict[str, list]:
        """Transform a batch of columns.

        Args:
            samples: `{column: list of raw values}`. A `None` value means that the sample lacks the modality. Columns
                that are not a modality pass through.
            training: switch random augmentation on.

        Returns:
            the same columns; modalities hold `Tensor`, `dict[str, Tensor]` or `None` per sample.

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
            `{modality: tensor or dict of tensors with a batch axis of 1, or None if absent}`. None says it all: a
            "modality_mask" would depend on the model's order of modalities.

        Raises:
            ValueError: an unknown modality, no modality, or a value that cannot be used.
        """
        unknown = [name for name in raw if name not in self.modalities]
        if unknown:
            raise ValueError(f"Expected modalities among {list(self.modalities)}, found {unknown}. Correct the names.")
        columns = self({name: [raw.get(name)] for name in self.modalities})
        sample = {name: values[0] for name, values in columns.items()}
        if all(value is None for value in sample.values()):
            raise ValueError(
                f"Expected a usable value for at least one of the modalities {list(self.modalities)}, found none."
            )
        batch = collate_present([sample], list(self.modalities), self.pad_token_id)
        batch.pop("modality_mask", None)
        return batch

    @property
    def unfitted(self) -> list[str]:
        """The modalities whose transform learns from data and has not done so."""
        return self._transforms.unfitted

    def apply(
        self,
        dataset: DatasetDict | IterableDatasetDict,
        training_split: str | None = "train",
        num_proc: int | None = None,
        augment: bool = True,
    ) -> DatasetDict | IterableDatasetDict:
        """Make every row of a dataset yield tensors.

        Deterministic modalities are computed once with `Dataset.map` and cached, for data in memory in the folder
        `hf_bml` of the cache of `datasets`: the fingerprint depends only on the data, the size and time of the files
        that it points to, and this processor's config, so other processes find the cache, and a repaired or rewritten
        file is processed again. A tokenizer counts by its content. Random modalities are transformed at each
        access, augmented in `training_split` only: from their cached deterministic part where there is one (decoded
        frames, optical flow), else from the raw value. Feature files are also read at each access. Media columns
        are read undecoded, so no FFmpeg is needed. Keep raw images in `datasets.Image` columns: nested lists and
        `Array3D` are read several times slower.

        What is returned can be pushed to the Hub (`processed.push_to_hub(...)`) and loaded again as it is, streamed or
        not: a column of prepared tensors is not computed again. Only the processor that prepared it can be applied to
        it; another one, or another version, raises.

        With `on_error` "mask" or "skip", every raw value is tried once, as in evaluation, and what failed is in
        `failures`, whether computed now or found in the cache. Random frames that turn out to be damaged later give
        way to the frames that were tried, with a warning that names the file.

        A transform that learns from data ("ivector", "words", "features" that are standardized) and is not fitted is
        fitted first, on the usable values of `training_split` alone, and stays so: later calls use what it learned. A
        processor loaded with `from_pretrained` is fitted already.

        A stream (`IterableDatasetDict`) is transformed while it is read, for data that does not fit on the disk;
        failures are logged, and nothing is fitted on it. Shuffle it beforehand, `stream.shuffle(buffer_size=1000)`, so
        that the buffer holds raw rows. The trainer seeds the order and splits it across processes; a loop of your own
        calls `split_dataset_by_node`.

        Args:
            dataset: splits with one column per modality; other columns (labels) pass through unchanged.
            training_split: the split that is augmented, and fitted on; None for none.
            num_proc: worker processes for `Dataset.map`.
            augment: false leaves the training split as it is, to look at a trained model's predictions.

        Returns:
            splits whose rows hold `Tensor`, `dict[str, Tensor]` or `None` per modality.

        Raises:
            ValueError: not a `DatasetDict` or `IterableDatasetDict`, a modality's column is missing or was prepared
                by another processor, a value cannot be used and `on_error` is "raise", no row of a split can be used,
                or a transform cannot be fitted: no training split, too few values, a stream.
        """
        augmented = training_split if augment else None
        if isinstance(dataset, IterableDatasetDict):
            return process_stream(dataset, json.dumps(self.to_dict()), augmented)
        if not isinstance(dataset, DatasetDict):
            raise ValueError(
                f"Expected a DatasetDict, found {type(dataset).__name__}. Wrap it: DatasetDict({{'train': dataset}})."
            )
        self._fit(dataset, training_split, num_proc)
        processed, self.failures = process_dataset(dataset, json.dumps(self.to_dict()), augmented, num_proc)
        return processed

    def _fit(self, dataset: DatasetDict, training_split: str | None, num_proc: int | None) -> None:
        unfitted = self._transforms.unfitted
        if unfitted and training_split not in dataset:
            raise ValueError(
                f"Expected the split {training_split!r} to fit {unfitted} on, found {list(dataset)}. Name the "
                "training split, or load a fitted processor with from_pretrained."
            )
        for name in unfitted:
            split = dataset[training_split]
            check_columns(self.modalities, split.column_names)
            transform = self.transforms[name]
            if transform.learns == "options":
                values = split.with_format(None).select_columns([name])[name]
                self.modalities[name].update(transform.learned_options(values))
                continue
            config = json.dumps({**self.to_dict(), "modalities": {name: self.modalities[name]}})
            self.modalities[name]["fitted"] = fit_modality(split, training_split, name, config, num_proc)
        if unfitted:
            self._transforms = ModalityTransforms(self.modalities, self.on_error)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able description, accepted by `from_dict`."""
        return {
            "processor_class": type(self).__name__,
            "version": CONFIG_VERSION,
            "modalities": self.modalities,
            "on_error": self.on_error,
        }

    @classmethod
    def from_dict(cls, config: dict[str, Any]) -> MultimodalProcessor:
        """Build from `to_dict()`.

        Raises:
            ValueError: the format version differs, or a type is not registered: what a file names is not imported.
        """
        if config.get("version") != CONFIG_VERSION:
            raise ValueError(
                f"Expected processor config version {CONFIG_VERSION}, found {config.get('version')}. "
                "Write the config again with this version of hf_bml."
            )
        with registered_names_only():
            return cls(config["modalities"], config.get("on_error", "raise"))

    @property
    def augmentations(self) -> dict[str, Augmentation]:
        """The corruptions in training, of the modalities that have any; see `augmentation_of`."""
        return self._transforms.augmentations

    def save_pretrained(self, save_directory: str | Path, **unused: Any) -> list[str]:
        """Write `processor_config.json`; the files of tokenizers and feature extractors, each modality's in
        `tokenizer_<modality>` or `feature_extractor_<modality>`; and, with fitted transforms,
        `processor_state.safetensors`.

        Returns:
            the paths, as transformers processors do.
        """
        path = Path(save_directory) / CONFIG_NAME
        path.parent.mkdir(parents=True, exist_ok=True)
        config = self.to_dict()
        if self._auto_class is not None and self._origin is not None:  # a copy of this class from a repository
            source, config["auto_map"] = self._origin
            keep_code(type(self), config["auto_map"].values(), source, path.parent)
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        written = [path]
        for modality, options in self.modalities.items():
            for name in options.get("files", ()):
                written.append(path.parent / file_beside(modality, options, name))
                written[-1].parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(kept_files(options["files"]) / name, written[-1])
        state = {
            f"{modality}.{name}": tensor
            for modality, options in self.modalities.items()
            if "fitted" in options
            for name, tensor in stored_state(options["fitted"]).items()
        }
        if state:
            written.append(path.with_name(STATE_NAME))
            save_file(state, written[-1])
        return list(map(str, written))

    @classmethod
    def register_for_auto_class(cls, auto_class: str = "AutoProcessor") -> None:
        """As transformers processors have it: `AutoProcessor` calls it for a class that came with a repository."""
        cls._auto_class = auto_class

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, **options: Any) -> MultimodalProcessor:
        """Read `processor_config.json`, its tokenizers and feature extractors, and what its transforms learned, from a
        folder or a Hub repository.

        Args:
            name_or_path: folder, or repository id.
            options: those in HUB_OPTIONS (revision, token, ...) concern the download; others, which
                `AutoProcessor.from_pretrained` passes, are ignored.

        Raises:
            OSError: no such files there.
            ValueError: the format's version differs, or the files do not belong together.
        """
        hub_options = {key: value for key, value in options.items() if key in HUB_OPTIONS}
        path = cached_file(str(name_or_path), CONFIG_NAME, **hub_options)
        config = json.loads(Path(path).read_text(encoding="utf-8"))
        expected = {name: given["fitted"] for name, given in config["modalities"].items() if "fitted" in given}
        if expected:
            states: dict[str, dict[str, Any]] = defaultdict(dict)
            for key, tensor in load_file(cached_file(str(name_or_path), STATE_NAME, **hub_options)).items():
                modality, _, name = key.rpartition(".")
                states[modality][name] = tensor
            found = {modality: store_state(state) for modality, state in states.items()}
            if found != expected:
                raise ValueError(
                    f"{name_or_path}: expected the fitted states {expected} of {CONFIG_NAME} in {STATE_NAME}, found "
                    f"{found}. The files are of different processors: save them again."
                )
        for modality, options in config["modalities"].items():
            with TemporaryDirectory() as folder:
                for name in options.get("files", ()):
                    file = cached_file(str(name_or_path), file_beside(modality, options, name), **hub_options)
                    (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(file, Path(folder) / name)
                if "files" in options and keep_files(Path(folder)) != options["files"]:
                    raise ValueError(
                        f"{name_or_path}: expected the files that {CONFIG_NAME} names in "
                        f"{file_beside(modality, options, '')}, found others. The files are of different processors: "
                        "save them again."
                    )
        processor = cls.from_dict(config)
        processor._origin = str(name_or_path), config.get("auto_map", {})
        return processor

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
        """Upload what `save_pretrained` writes beside a model on the Hub; the repository is created if need be.

        Returns:
            the URL of the commit.
        """
        api = HfApi(token=token)
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            commit = api.upload_folder(
                folder_path=folder,
                repo_id=repo_id,
                revision=revision,
                commit_message=commit_message,
                create_pr=create_pr,
            )
        return str(commit)


def file_beside(modality: str, options: Mapping[str, Any], name: str) -> str:
    """Where a file of a modality's tokenizer or feature extractor lies beside the processor's config."""
    with registered_names_only():
        return f"{PROCESSORS.find(options['type']).source_option}_{modality}/{name}"
