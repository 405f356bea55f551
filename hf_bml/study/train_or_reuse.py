"""Trains runs that are not finished, and the parts that they start from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list

from . import experiment
from .after_run import AfterRun, known_measures, measured
from .claim import Claim, ClaimCheck
from .recipe import Recipe
from .run_result import flat_result
from .shard import Shard


def flat_run(
    recipe: Recipe,
    prefix: str = "",
    after: Sequence[AfterRun] = (),
    shard: Shard | None = None,
    claim: Claim | None = None,
) -> dict[str, Any]:
    """A run of a [`Row`](../analysis/row.py), trained unless it is finished, with what is measured after it."""
    result = run_or_reuse(recipe, prefix, shard, claim)
    flat = flat_result(result)
    for one in after:
        flat |= measured(recipe, result, one)
    return flat


def finished_run(recipe: Recipe, after: Sequence[AfterRun]) -> dict[str, Any] | None:
    """`flat_run` of a run that is finished and measured; None otherwise."""
    result = experiment.finished_result(recipe)
    known = known_measures(recipe)
    if result is None or any(one.key not in known for one in after):
        return None
    flat = flat_result(result)
    for one in after:
        flat |= known[one.key]
    return flat


def each_run(
    recipes: Sequence[Recipe], what: str, after: Sequence[AfterRun], shard: Shard | None, is_needed: bool
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields runs by their places: all in order or, of a shard, see `Shard.each_run`."""

    def train(place: int, claim: Claim | None = None) -> dict[str, Any]:
        return flat_run(recipes[place], f"{what} {place + 1} of {len(recipes)}, ", after, shard, claim)

    if shard is None:
        yield from ((place, train(place)) for place in range(len(recipes)))
    else:
        folders = [Path(recipe.training.output_dir) for recipe in recipes]
        yield from shard.each_run(folders, lambda place: finished_run(recipes[place], after), train, is_needed)


def check_not_pushed(recipes: Sequence[Recipe]) -> None:
    """Raises ValueError for several runs that would all push to one repository."""
    if len(recipes) > 1 and recipes[0].training.push_to_hub:
        raise ValueError(
            f"push_to_hub: the {len(recipes)} runs would overwrite each other on the Hub. Push the one you choose "
            "afterwards: hf-bml push RUN_DIR --repo-id NAME."
        )


def run_or_reuse(
    recipe: Recipe, prefix: str = "", shard: Shard | None = None, claim: Claim | None = None
) -> dict[str, Any]:
    """Runs a recipe, unless its folder holds the finished run of one that computes the same."""
    finished = [experiment.finished_result(recipe)]
    if recipe.training.world_size > 1:
        broadcast_object_list(finished)  # the main process decides for all
    if finished[0] is None:
        return announce_and_run(recipe, prefix, shard, claim)
    if recipe.training.process_index == 0:
        print(f"{prefix}{recipe.training.output_dir}: finished before with the same options, not trained again")
    return finished[0]


def announce_and_run(
    recipe: Recipe, prefix: str = "", shard: Shard | None = None, claim: Claim | None = None
) -> dict[str, Any]:
    """Runs a recipe, and before it the parts that it starts from; the main process says so.

    Args:
        recipe: what is run.
        prefix: of what is said.
        shard: parts are then trained under a claim, or waited for.
        claim: ends the training when it is lost.
    """
    if shard is None:
        for part in recipe.parts.values():
            run_or_reuse(part, prefix)
    else:
        for _ in each_run(list(recipe.parts.values()), f"{prefix}part", (), shard, is_needed=True):
            pass
    if recipe.training.process_index == 0:
        print(f"{prefix}{recipe.training.output_dir}: training", flush=True)
    return experiment.run(recipe, *([] if claim is None else [ClaimCheck(claim)]))
