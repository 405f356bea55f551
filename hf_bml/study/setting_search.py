"""Runs the settings of a search, and chooses on validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..analysis.metric_names import MEASURED, first_validation_metric
from ..analysis.references import best_run
from ..analysis.robustness import with_common_dominant
from .after_run import AfterRun
from .comparison import Contender
from .metric_checks import check_metric
from .plan import Plan
from .recipe import Recipe
from .shard import Shard
from .train_or_reuse import check_not_pushed, each_run


def choose_settings(
    contenders: Sequence[Contender], metric: str, after: Sequence[AfterRun] = (), shard: Shard | None = None
) -> Plan:
    """Runs each setting of the rows that have several, and plans the best on validation.

    Args:
        contenders: the rows; their `setting` and `search` are filled here.
        metric: `validation_<metric>` chooses; `validation_accuracy` in a row none of whose runs has it, such as models
            of one modality, of which none can be missing.
        after: see `run_plan`.
        shard: searches together with others, and waits for them.

    Returns:
        the runs of all rows, sorted by how the splits are cut, so that runs of the same data follow each other.

    Raises:
        ValueError: the first run does not yield the metric.
    """
    searches = [contender for contender in contenders if len(contender.trials) > 1]
    trials = [(contender.row, trial) for contender in searches for trial in contender.trials]
    check_not_pushed([trial.recipe for _, trial in trials])
    key = f"validation_{metric.removeprefix('validation_')}"
    found = {}
    for place, run in each_run([trial.recipe for _, trial in trials], "search run", after, shard, is_needed=True):
        if not may_lack(trials[place][1].recipe, key):
            check_metric("--select", key, [name for name in run if name.startswith("validation_")])
        found[place] = run
    for place, (row, trial) in enumerate(trials):
        row.search.append({"setting": trial.setting, **found[place]})
    tried, _ = with_common_dominant([replace(contender.row, runs=contender.row.search) for contender in searches])
    for contender, row in zip(searches, tried, strict=True):
        chosen_by = key if any(key in run for run in row.runs) else first_validation_metric([row])
        contender.row.search = [{"chosen_by": chosen_by, **run} for run in row.runs]
    plan: Plan = []
    for contender in contenders:
        row, trials = contender.row, contender.trials
        best = trials[best_run(row.search, row.search[0]["chosen_by"]) if len(trials) > 1 else 0]
        row.setting = best.setting if len(trials) > 1 else ""
        plan += best.plan_seeds()
    return sorted(plan, key=lambda run: split_order(run[1]))


def may_lack(recipe: Recipe, metric: str) -> bool:
    """Whether a run without this metric is no mistake: a model of one modality is not measured without it."""
    is_alone = len(recipe.model.modalities or ()) == 1
    return is_alone and metric.removeprefix("validation_").startswith(MEASURED)


def split_order(recipe: Recipe) -> tuple[int, int]:
    """Sorts runs with equally cut splits behind each other, and leaves all others in their order."""
    return recipe.data.fold or 0, recipe.training.seed if recipe.data.train_per_class else 0
