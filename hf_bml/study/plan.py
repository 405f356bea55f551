"""What a command is going to run: recipes with their seeds and folders, validated before the first one starts."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..analysis.comparison import PLAIN, Row
from ..training.checkpoint import AUTO, LAST, resume_request
from .checks import check_compared_metric, check_recipe, check_resume
from .fingerprint import fingerprint
from .parser import RecipeParser
from .recipe import Recipe, parse_recipe

Plan = list[tuple[Row, Recipe]]  # all runs in order, each with the row that its result belongs to


def plan_recipes(parser: RecipeParser, chosen: argparse.Namespace, arguments: Sequence[str]) -> Plan:
    """The runs of `hf-bml train`, recipe by recipe and seed by seed.

    Args:
        parser: of the command.
        chosen: what the command line says of `recipes`, `seeds` and `compare`.
        arguments: the command line.

    Raises:
        ValueError, FileNotFoundError: a recipe or an option that cannot be used.
    """
    check_series(chosen)
    alone = len(chosen.recipes) == 1
    plan: Plan = []
    for path in chosen.recipes:
        base = parse_recipe(parser, path, arguments)
        row = Row(base.name)
        root = output_root(base, base.name) if alone else output_root(base) / base.name
        for seed in chosen.seeds or [None]:
            folder = root if seed is None else root / f"seed-{seed}"
            changes = {"output_dir": str(folder)} | ({} if seed is None else {"seed": seed})
            plan.append((row, parse_recipe(parser, path, arguments, changes)))
        try:
            check_recipe(plan[-1][1])
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    check_compared_metric(chosen.compare, plan[0][1])
    check_resume([recipe for _, recipe in plan])
    return plan


def plan_seeds(
    row: Row,
    parser: RecipeParser,
    path: str,
    arguments: Sequence[str],
    changes: Mapping[str, Any],
    seeds: Sequence[int] | None,
) -> Plan:
    """The runs of one row, each in a folder of its own; the recipe is validated once.

    Args:
        row: its label tells the runs' names apart.
        parser, path, arguments, changes: see `parse_recipe`.
        seeds: None for the recipe's own.

    Raises:
        ValueError: the recipe cannot be used.
    """
    base = parse_recipe(parser, path, arguments, changes)
    check_recipe(base)
    plan: Plan = []
    for seed in seeds or [base.training.seed]:
        folder = own_folder(output_root(base), base, seed)
        own = {"seed": seed, "output_dir": str(folder), "resume_from_checkpoint": resume(base)}
        recipe = parse_recipe(parser, path, arguments, {**changes, **own})
        recipe.name = f"{base.name}, {row.label}"
        plan.append((row, recipe))
    return plan


def common_folder(plan: Plan) -> Path:
    """The folder above METHOD-HASH/seed-SEED, for the tables."""
    return Path(plan[0][1].training.output_dir).parents[1]


def check_series(chosen: argparse.Namespace) -> None:
    """Raises ValueError for two recipes of one name, or for a seed that is given twice."""
    names = [Path(path).stem for path in chosen.recipes]
    if len(set(names)) != len(names):
        raise ValueError(f"recipes need different file names, found {names}.")
    if chosen.seeds is not None and len(set(chosen.seeds)) != len(chosen.seeds):
        raise ValueError(f"--seeds must differ, found {chosen.seeds}.")


def output_root(recipe: Recipe, name: str = "") -> Path:
    """The recipe's `output_dir`, by default `runs/<dataset>/<name>`."""
    default = Path("runs") / str(recipe.data.dataset).replace(":", ".") / name
    return Path(str(recipe.explicit.get("output_dir", default)))


def own_folder(root: Path, recipe: Recipe, seed: int) -> Path:
    """`root/METHOD-HASH/seed-SEED`: equal for all commands, so that none trains what another one has finished."""
    names = "+".join(recipe.training.modulations or {}) or PLAIN
    return root / f"{names}-{fingerprint(recipe)[:8]}" / f"seed-{seed}"


def resume(base: Recipe) -> str:
    """`auto` unless the recipe says no: a run's own folder holds nothing but checkpoints of the very same run.

    Raises:
        ValueError: the recipe names one checkpoint, for all runs.
    """
    value = base.training.resume_from_checkpoint
    request = AUTO if value is None else resume_request(value)
    if request in (AUTO, LAST):
        return AUTO
    if request is None:
        return "false"
    raise ValueError(f"resume_from_checkpoint must be auto or false in a comparison of many runs, found {value!r}.")


def check_name(name: str) -> None:
    """Raises ValueError if the files cannot be named so."""
    if not name or Path(name).name != name:
        raise ValueError(f"--name must be the beginning of a file name, found {name!r}.")
