"""Solely trained unimodal models: a run's own recipe with one modality and no modulation (paper Fig. 1)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .checks import check_recipe
from .finished_run import FinishedRun, check_modality, run_config
from .parser import train_parser
from .parts import alone_changes
from .recipe import Recipe, parse_recipe
from .train_or_reuse import run_or_reuse

FOLDER = "alone"


def parse_alone(texts: Sequence[str], modalities: Sequence[str]) -> dict[str, Path | None]:
    """Reads `audio` and `audio=RUN_DIR`; nothing means every modality.

    Returns:
        per modality the folder of its finished run, or None if it is to be trained.

    Raises:
        ValueError: unknown modality, or one that is given twice.
    """
    chosen: dict[str, Path | None] = {}
    for text in texts or modalities:
        name, _, folder = text.partition("=")
        check_modality("--alone", name, modalities)
        if name in chosen:
            raise ValueError(f"--alone: {name!r} is given twice.")
        chosen[name] = Path(folder) if folder else None
    return chosen


def alone_recipe(run: FinishedRun, modality: str) -> Recipe:
    """The run's recipe reduced to one modality, in `RUN_DIR/alone/<modality>`; all else is equal, the seed too.

    It is pushed nowhere, and trackers get it under a name of its own.

    Raises:
        ValueError: the run started from a checkpoint or solves another task, so that no recipe says what a model of
            one modality is; or an option needs another modality.
    """
    config, folder = run_config(run.folder), run.folder / FOLDER / modality
    original = parse_recipe(train_parser(), config, [config])
    try:
        changes = alone_changes(original, modality)
    except ValueError as error:
        raise ValueError(
            f"--alone: {error} Train the unimodal model yourself, and pass --alone {modality}=RUN_DIR."
        ) from error
    changes |= {"output_dir": str(folder), "resume_from_checkpoint": "auto"}
    recipe = parse_recipe(train_parser(), config, [config], changes)
    try:
        check_recipe(recipe)
    except ValueError as error:
        raise ValueError(f"--alone {modality}: {error} Or pass --alone {modality}=RUN_DIR.") from error
    recipe.name = f"{modality} alone"
    return recipe


def train_alone(recipes: Sequence[Recipe]) -> None:
    """Trains the recipes that have no finished run; an interrupted one resumes from its newest checkpoint."""
    for recipe in recipes:
        run_or_reuse(recipe)
