"""The robustness that a comparison measures of its runs; what cannot be measured is refused before any of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ..analysis.metric_names import MEASURED
from ..processing.corruptions import check_corruptible
from .after_run import AfterRun
from .corruption_choice import Chosen, fitting_corruptions, parse_corruptions
from .finished_run import FinishedRun
from .recipe import Recipe
from .robustness_after_run import measure_robustness
from .run_data import build_data, processor_configs
from .run_model import recipe_modalities


def check_measured(
    select: str, compare: str, columns: Sequence[str], corruptions: Sequence[str] | None, robustness: bool
) -> None:
    """Raises ValueError if an option of the command line needs `--robustness`, which it does not have."""
    needing = [("--select", select), ("--compare", compare), *(("--columns", name) for name in columns)]
    for option, metric in () if robustness else needing:
        if is_measured(metric):
            raise ValueError(f"{option}: {metric} is measured after a run. Add --robustness.")
    if corruptions is not None and not robustness:
        raise ValueError("--corruptions says what --robustness measures. Add --robustness.")


def is_measured(metric: str) -> bool:
    """Whether a metric, of either split, is one of robustness."""
    return metric.removeprefix("validation_").startswith(MEASURED)


def measures(
    select: str, corruptions: Sequence[str] | None, recipes: Sequence[Recipe]
) -> tuple[list[AfterRun], list[AfterRun]]:
    """What is measured of the runs of a search, on validation and only if it chooses, and of the others.

    Args:
        select: the metric that chooses.
        corruptions: texts as of `parse_corruption`; None for all that fit.
        recipes: of all runs.

    Raises:
        ValueError: a corruption that cannot be used.
    """
    modalities = list(dict.fromkeys(name for recipe in recipes for name in recipe_modalities(recipe)))
    chosen = parse_corruptions(corruptions, modalities)
    if chosen is not None:
        check_fitting(chosen, recipes)
    search = measure_robustness(["validation"], chosen) if is_measured(select) else []
    return search, measure_robustness(["validation", "test"], chosen)


def check_fitting(corruptions: Sequence[Chosen], recipes: Sequence[Recipe]) -> None:
    """Raises ValueError if a corruption does not fit a modality as a recipe reads it; prepares its data to know."""
    known = set()
    for recipe in recipes:
        modalities, data = recipe_modalities(recipe), recipe.data
        key = json.dumps([modalities, data.dataset, data.dataset_options, processor_configs(recipe)], default=str)
        if key in known:
            continue
        known.add(key)
        run = FinishedRun(Path(recipe.training.output_dir), recipe, *build_data(recipe))
        for modality, corruption in fitting_corruptions(run, modalities, corruptions)[0]:
            check_corruptible(modality, run.processor.transforms[modality], corruption.name, corruption.signal)
