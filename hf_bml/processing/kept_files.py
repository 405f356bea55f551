"""Files that belong to a transform, such as a tokenizer's, by their content in the cache folder of `datasets`.

A processor's config holds the files' names and digests, so it stays plain JSON, and the place that they were loaded
from does not matter. Worker processes read the files.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from .fitted_state import state_folder

Digests = dict[str, str]  # SHA-256 by the file's path below its folder


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
