"""What fitted transforms learned, as safetensors named by their content in the cache folder of `datasets`.

A processor's config holds only the name, so it stays plain JSON, and the name represents the content in every cache
fingerprint. Worker processes read the file.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import datasets
from safetensors.torch import load_file, save
from torch import Tensor

from ..ground.disk import disk_errors_named


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
        ValueError: it is not in the cache.
    """
    if not _state_path(name).is_file():
        raise ValueError(
            f"expected the fitted state {name!r} in {state_folder()}, found none. Load the processor with "
            "from_pretrained from where it was saved, or leave out `fitted` and fit again."
        )
    return load_file(_state_path(name))


def remember_fit(key: str, name: str) -> None:
    """Record that fitting on what `key` identifies gave the state `name`."""
    _write(state_folder() / f"{key}.fit", name.encode())


def recalled_fit(key: str) -> str | None:
    """The state that fitting on what `key` identifies gave, if it still exists."""
    path = state_folder() / f"{key}.fit"
    name = path.read_text(encoding="utf-8") if path.is_file() else None
    return name if name and _state_path(name).is_file() else None


def _state_path(name: str) -> Path:
    return state_folder() / f"{name}.safetensors"


def _write(path: Path, content: bytes) -> None:
    """At once: other processes see the whole file or none."""
    with disk_errors_named(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(content)
        os.replace(file.name, path)
