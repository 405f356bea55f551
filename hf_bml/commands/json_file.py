"""JSON files that are either complete or not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write_json(value: Any, path: str | Path) -> None:
    """Writes indented JSON beside the file and then moves it there; a process that dies leaves the old file."""
    path = Path(path)
    unfinished = path.with_name(f"{path.name}.part")
    unfinished.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    unfinished.replace(path)
