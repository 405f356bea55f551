"""What is measured of a finished run beside its own metrics; the file `after_run.json` in its folder keeps it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list

from . import experiment
from .json_file import read_json, write_json
from .recipe import Recipe


@dataclass(frozen=True)
class AfterRun:
    """What is measured of every finished run beside its own metrics, such as robustness: part of its result.

    Attributes:
        key: names it together with its options; what a run has been measured by this key is not measured again.
        measure: takes the recipe and what `metrics.json` holds, returns numbers by name, each with a `/` in it, those
            of the validation split behind `validation_`. Under a launcher every process calls it.
    """

    key: str
    measure: Callable[[Recipe, Mapping[str, Any]], Mapping[str, float]]


def known_measures(recipe: Recipe) -> dict[str, Any]:
    """What has been measured of a finished run, by the key of `AfterRun`."""
    path = Path(recipe.training.output_dir) / experiment.AFTER_NAME
    return read_json(path) if path.is_file() else {}


def measured(recipe: Recipe, result: Mapping[str, Any], after: AfterRun) -> dict[str, float]:
    """What `after` measures of a finished run, or has measured before."""
    known = [known_measures(recipe)]
    if recipe.training.world_size > 1:
        broadcast_object_list(known)  # the main process decides for all
    if after.key not in known[0]:
        known[0][after.key] = dict(after.measure(recipe, result))
        if recipe.training.process_index == 0:
            write_json(known[0], Path(recipe.training.output_dir) / experiment.AFTER_NAME)
    return known[0][after.key]
