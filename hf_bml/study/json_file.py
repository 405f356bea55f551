"""JSON files that are either complete or not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..ground.disk import disk_errors_named


def write_json(value: Any, path: str | Path) -> None:
    """Writes indented JSON beside the file and then moves it there; a process that dies leaves the old file."""
    path = Path(path)
    unfinished = path.with_name(f"{path.name}.part")
    with disk_errors_named(path):
        unfinished.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
        unfinished.replace(path)


def read_json(path: Path, *entries: str) -> dict[str, Any]:
    """The mapping in a JSON file; ValueError, naming the file, if it cannot be read or lacks an entry."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}. Train or analyse the run again.") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected a mapping, found {found!r:.40}. Train or analyse the run again.")
    for entry in entries:
        if entry not in found:
            raise ValueError(f"{path}: expected the entry {entry!r}, found {list(found)}.")
    return found
