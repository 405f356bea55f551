"""What belongs to a transform, by its content in the cache folder of `datasets`: its files, such as a tokenizer's, and
what it learned, as safetensors.

A processor's config holds only names and digests, so it stays plain JSON, and they stand for the content in every
cache fingerprint. Worker processes read the files.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import datasets
from safetensors.torch import load_file, save
from torch import Tensor

from ..ground.disk import disk_errors_named

Digests = dict[str, str]  # SHA-256 by the file's path below its folder


def state_folder() -> Path:
    """Where the files are."""
    return Path(datasets.config.HF_DATASETS_CACHE) / "hf_bml_fitted"


def store_state(state: dict[str, Tensor]) -> str:
    """Write a state, unless it is there, and return its name: the SHA-256 of its safetensors file."""
    content = save(state)
    name = hashlib.sha256(content).hexdigest()
    if not _state_path(name).is_file():
        _write(_state_path(name), content)
    return name


def stored_state(name: str) -> dict[str, Tensor]:
    """The state of that name.

    Raises:
        ValueError: It is not in the cache.
    """
    if not _state_path(name).is_file():
        raise ValueError(
            f"expected the fitted state {name!r} in {state_folder()}, found none. Load the processor with "
            "from_pretrained from where it was saved, or leave out `fitted` and fit again."
        )
    return load_file(_state_path(name))


def remember_fit(key: str, name: str) -> None:
    """Note that fitting on what `key` stands for gave the state `name`."""
    _write(state_folder() / f"{key}.fit", name.encode())


def recalled_fit(key: str) -> str | None:
    """The state that fitting on what `key` stands for gave, if it is still there."""
    path = state_folder() / f"{key}.fit"
    name = path.read_text(encoding="utf-8") if path.is_file() else None
    return name if name and _state_path(name).is_file() else None


def remembered_state(key: str, make: Callable[[], dict[str, Tensor]]) -> str:
    """The name of the state that `key` stands for; only where it is not in the cache, `make` is called."""
    name = recalled_fit(key)
    if name is None:
        name = store_state(make())
        remember_fit(key, name)
    return name


def _state_path(name: str) -> Path:
    return state_folder() / f"{name}.safetensors"


def _write(path: Path, content: bytes) -> None:
    """At once: other processes see the whole file or none."""
    with disk_errors_named(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(content)
        os.replace(file.name, path)


def keep_files(folder: Path) -> Digests:
    """Copies a folder into the cache, unless it is there, and returns the digests of its files."""
    paths = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    digests = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in paths.items()}
    target = _folder_of(digests)
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
            shutil.copytree(folder, Path(temporary) / target.name)
            try:  # at once: other processes see the whole folder or none
                os.rename(Path(temporary) / target.name, target)
            except OSError:
                if not target.is_dir():  # else another process was faster
                    raise
    return digests


def kept_files(digests: Mapping[str, str]) -> Path:
    """The folder of files that were kept.

    Raises:
        ValueError: it is not in the cache.
    """
    folder = _folder_of(digests)
    if not folder.is_dir():
        raise ValueError(
            f"expected the files {list(digests)} in {folder}, found none. Load the processor with from_pretrained "
            "from where it was saved, or leave out `files`."
        )
    return folder


def _folder_of(digests: Mapping[str, str]) -> Path:
    return state_folder() / hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()
