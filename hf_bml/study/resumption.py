"""Which checkpoint a run resumes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..training.checkpoint import AUTO, LAST, no_checkpoint, resume_request
from ..training.checkpoint import resume_point as find_resume_point
from .fingerprint import fingerprint
from .json_file import read_json
from .recipe import Recipe

METRICS_NAME = "metrics.json"
TRAINING_NAME = "training.json"


def resume_point(recipe: Recipe) -> str | None:
    """The checkpoint that a run resumes, see [`resume_point`](../training/checkpoint.py); None also for
    `last` without one (`check_resume` has refused the other cases).

    Raises:
        ValueError: the given folder holds no complete checkpoint, or the newest one is of another training.
    """
    value = recipe.training.resume_from_checkpoint
    by_name = resume_request(value) not in (None, AUTO, LAST)
    found = find_resume_point(AUTO if resume_request(value) == LAST else value, recipe.training.output_dir)
    if found is not None and not by_name and goes_on_from_another(recipe, found):
        raise ValueError(
            f"resume_from_checkpoint: {found} is of a training with other options than this one. Use another "
            "output_dir, false to start from scratch, or name the checkpoint's folder to resume it all the same."
        )
    return found


def training_identity(recipe: Recipe) -> dict[str, Any]:
    """What a run writes to `TRAINING_NAME` before it trains: two that are equal train the same."""
    return {"fingerprint": fingerprint(recipe), "seed": recipe.training.seed}


def goes_on_from_another(recipe: Recipe, checkpoint: str | Path) -> bool:
    """Whether a checkpoint is known to be of a training that is not the recipe's."""
    path = Path(checkpoint).parent / TRAINING_NAME
    return path.is_file() and read_json(path) != training_identity(recipe)


def check_resume(recipes: Sequence[Recipe]) -> None:
    """Whoever wants to resume the last checkpoint has one; among several runs, one of them is enough.

    The rest of an interrupted series then starts from scratch.
    """
    points = [resume_point(recipe) for recipe in recipes]
    wanted = [r for r in recipes if resume_request(r.training.resume_from_checkpoint) == LAST]
    finished = len(recipes) > 1 and any((Path(r.training.output_dir) / METRICS_NAME).is_file() for r in recipes)
    if wanted and not any(points) and not finished:
        raise ValueError(no_checkpoint(", ".join(str(recipe.training.output_dir) for recipe in wanted)))
