"""What a command is going to run: recipes with their seeds and folders, validated before the first one starts."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..analysis.row import Row
from ..training.checkpoint import AUTO, LAST, resume_request
from .checks import check_recipe
from .fingerprint import fingerprint
from .methods import method_of
from .metric_checks import compared_metric
from .parser import RecipeParser
from .parts import alone_changes, methods_without_teachers
from .recipe import Recipe, parse_recipe
from .resumption import check_resume

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
            for _, recipe in (run for run in plan if run[0] is row):
                root = Path(recipe.training.output_dir) / "alone"
                plan_parts(recipe, partial(parse_recipe, parser, path, arguments), root)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    chosen.compare = compared_metric(chosen.compare, plan[0][1])
    check_resume([recipe for _, recipe in plan])
    return plan


def plan_seeds(
    row: Row,
    parser: RecipeParser,
    path: str,
    arguments: Sequence[str],
    changes: Mapping[str, Any],
    seeds: Sequence[int] | None,
    one_fold: bool = False,
) -> Plan:
    """The runs of one row, fold by fold, each in a folder of its own; the recipe is validated once.

    Args:
        row: its label tells the runs' names apart.
        parser, path, arguments, changes: see `parse_recipe`.
        seeds: None for the recipe's own.
        one_fold: whether the first fold alone is planned, of a recipe with `folds`, which tests each otherwise.

    Raises:
        ValueError: the recipe cannot be used.
    """
    parse = partial(parse_recipe, parser, path, arguments)
    base = parse(changes)
    check_recipe(base)
    folds = [base.data.fold] if base.data.folds is None or base.data.fold is not None else range(base.data.folds)
    plan: Plan = []
    for fold in folds[:1] if one_fold else folds:
        cut = base if fold is None else parse({**changes, "fold": fold})
        for seed in seeds or [base.training.seed]:
            folder = own_folder(output_root(base), cut, seed)
            own = {"seed": seed, "output_dir": str(folder), "resume_from_checkpoint": resume(base), "fold": fold}
            recipe = parse({**changes, **own})
            recipe.name = f"{base.name}, {row.label}"
            plan_parts(recipe, lambda more, own=own: parse({**changes, **own, **more}), output_root(base))
            plan.append((row, recipe))
    return plan


def plan_parts(recipe: Recipe, parse: Callable[[dict[str, Any]], Recipe], root: Path) -> None:
    """Adds the recipes that train each modality alone to a recipe that starts from them or learns from them.

    Args:
        recipe: has passed `check_recipe`.
        parse: the same recipe with changed options.
        root: where the runs get folders METHOD-HASH/seed-SEED.

    Raises:
        ValueError: a modality cannot be trained alone.
    """
    taught = methods_without_teachers(recipe)
    for modality in (recipe.model.modalities or [""]) if recipe.model.from_unimodal is not None or taught else ():
        try:
            changes = {**alone_changes(recipe, modality), "seed": recipe.training.seed}
        except ValueError as error:
            if not taught:
                raise
            raise ValueError(
                f"{taught} learn from a model of each modality: {error} Or name these models: trained_alone: "
                "{MODALITY: FOLDER, ...}."
            ) from error
        part = parse(changes)
        check_recipe(part)
        folder = own_folder(root, part, recipe.training.seed)
        recipe.parts[modality] = parse({**changes, "output_dir": str(folder)})
        recipe.parts[modality].name = f"{recipe.name}, {modality} alone"
        if taught:
            recipe.training.trained_alone = {**(recipe.training.trained_alone or {}), modality: str(folder)}


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
    return root / f"{method_of(recipe.explicit).names}-{fingerprint(recipe)[:8]}" / f"seed-{seed}"


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
