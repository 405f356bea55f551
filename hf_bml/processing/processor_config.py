"""A processor's config as JSON, which workers and caches get: its transforms, and what stands for their tensors."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections.abc import Iterable
from contextlib import nullcontext
from functools import lru_cache

import multiprocess

from ..ground.suggestion import NOTHING, registered_names_only
from .corruptions.augmentation import corruptions_among
from .modality_transforms import PROCESSORS, ModalityTransforms


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
