"""Whether a recipe's file is there; imports nothing slow, so that `hf-bml` can say so at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def check_recipe_file(path: str | Path, extended_by: Sequence[Path] = ()) -> None:
    """Raises FileNotFoundError unless there is such a file; `extended_by` are the recipes that led to it."""
    if not Path(path).is_file():
        via = f" ({extended_by[-1]} extends it)" if extended_by else ""
        raise FileNotFoundError(f"recipe {path} does not exist{via}; expected the path of a YAML file.")
