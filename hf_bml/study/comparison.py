"""The plan of a comparison: every method on every recipe, with the model that it needs and the settings to try."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from ..analysis.references import is_control
from ..analysis.row import Row
from ..ground.suggestion import did_you_mean
from ..modulation.bundles import named_options
from .dotted_options import recipe_options
from .fingerprint import fingerprint
from .methods import Method, check_used, option_text, parse_method
from .metric_checks import compared_metric
from .model_checks import check_model
from .parser import RecipeParser
from .parts import alone_changes
from .plan import Plan, check_name, check_series, plan_seeds
from .recipe import Recipe, parse_recipe
from .sweep import applied, check_option, read_varied

DEFAULT = "default"  # the setting without searched values
EVERY = "*"  # `*.learning_rate`: an option of every method


@dataclass
class Trial:
    """A row's method with one setting.

    Attributes:
        setting: what was set.
        recipe: its run on the search's seed, and of a comparison with folds on the first fold.
        plan_seeds: plans all its runs.
    """

    setting: str
    recipe: Recipe
    plan_seeds: Callable[[], Plan]


@dataclass
class Contender:
    """A row and the settings that it may be run with; of several the one that is best on validation is."""

    row: Row
    trials: list[Trial] = field(default_factory=list)


def plan_methods(
    parser: RecipeParser, chosen: argparse.Namespace, arguments: Sequence[str]
) -> tuple[list[Contender], list[str]]:
    """What `hf-bml compare` runs, recipe by recipe, method by method.

    Args:
        parser: of the command.
        chosen: what the command line says of the command's own options.
        arguments: the command line.

    Returns:
        the rows, and a sentence on every method that a recipe's encoders do not allow.

    Raises:
        ValueError, FileNotFoundError: a recipe, a method or an option that cannot be used.
    """
    check_series(chosen)
    check_name(chosen.name)
    if chosen.budget is not None and (chosen.budget < 1 or not chosen.search):
        raise ValueError(f"--budget must be at least 1 and needs --search, found {chosen.budget}.")
    contenders: list[Contender] = []
    left_out: list[str] = []
    searched = read_varied(chosen.search or (), "--search")
    used: set[str] = set()
    for path in chosen.recipes:
        base = parse_recipe(parser, path, arguments, {"modulations": None})
        for method in methods_of(path, chosen, arguments):
            parse = partial(parse_recipe, parser, path, arguments)
            try:
                changed = changed_model_options(method, base)
                if reason := not_applicable(method, changed, base, parse):
                    left_out.append(f"{base.name}, {method.label}: not applicable. {reason}")
                    continue
                row = Row(
                    method.label,
                    recipe=base.name if len(chosen.recipes) > 1 else "",
                    methods=method.names,
                    model=", ".join(f"{option}={value}" for option, value in changed.items()),
                    plain=method.plain,
                    source=base.name,
                    dataset=str(base.data.dataset),
                )
                options = options_of(method, searched)
                used |= set(options)
                planned = partial(plan_trials, row, method, base, options, chosen, parser, path, arguments)
                contenders.append(Contender(row, list(planned())))
            except ValueError as error:
                raise ValueError(f"{path}, {method.label}: {error}") from error
    if not contenders:
        raise ValueError(" ".join(left_out))
    chosen.compare = compared_metric(chosen.compare, contenders[0].trials[0].recipe)
    for option in searched:
        if option not in used:
            raise ValueError(f"--search: no method has the option {option!r}. Write METHOD.OPTION, or *.OPTION.")
    check_control(chosen.control, [contender.row for contender in contenders])
    return contenders, left_out


def options_of(method: Method, searched: Mapping[str, Sequence[Any]]) -> dict[str, Sequence[Any]]:
    """The searched options, with their values, that apply to a method.

    Raises:
        ValueError: see `check_option`.
    """
    options = {}
    for name, values in searched.items():
        part, _, option = name.partition(".")
        if part == EVERY:
            check_option("--search", option)
            if option.partition(".")[0] == "modulations":
                raise ValueError(f"--search: the methods set modulations, found {name}. Write METHOD.OPTION.")
        if part == EVERY or part in method.names.split("+"):
            options[name] = values
    return options


def sampled_settings(options: Mapping[str, Sequence[Any]], seed: int) -> Iterator[dict[str, Any]]:
    """No setting at all, then every combination of the options' values in random order.

    Args:
        options: values by name.
        seed: of the order; equal options have the same one.
    """
    yield {}
    grid = list(itertools.product(*options.values())) if options else []
    for index in np.random.default_rng(seed).permutation(len(grid)):
        yield dict(zip(options, grid[index], strict=True))


def plan_trials(
    row: Row,
    method: Method,
    base: Recipe,
    options: Mapping[str, Sequence[Any]],
    chosen: argparse.Namespace,
    parser: RecipeParser,
    path: str,
    arguments: Sequence[str],
) -> Iterator[Trial]:
    """A row's settings, the default first and as many as `--budget` says; of `unimodal`, each of every modality.

    Settings that compute the same are tried once.
    """
    seed = chosen.search_seed if chosen.search_seed is not None else (chosen.seeds or [base.training.seed])[0]
    seen: set[str] = set()
    for modality in base.model.modalities if method.start == "unimodal" else (None,):
        alone = {} if modality is None else alone_changes(base, modality)
        tried = 0
        for setting in sampled_settings(options, seed):
            tuned, given = method, {}
            for name, value in setting.items():
                part, _, option = name.partition(".")
                if part == EVERY:
                    given[option] = value
                else:
                    tuned = tuned.with_option(part, option, value)
            further, changes = applied(given)
            changes |= changed_model_options(tuned, base) | {"modulations": tuned.modulations or None}
            changes |= alone or tuned.start_changes
            text = ", ".join(
                [
                    *([] if modality is None else [f"modality={modality}"]),
                    *(f"{name.removeprefix('*.')}={option_text(value)}" for name, value in setting.items()),
                ]
            )
            plan = partial(plan_seeds, row, parser, path, [*arguments, *further], changes)
            [(_, recipe)] = plan([seed], one_fold=True)
            identity = fingerprint(recipe)
            if identity in seen:
                continue
            if tried == chosen.budget:
                break
            seen.add(identity)
            tried += 1
            yield Trial(text or DEFAULT, recipe, partial(plan, chosen.seeds))


def methods_of(path: str, chosen: argparse.Namespace, arguments: Sequence[str]) -> list[Method]:
    """The methods for one recipe, which has a say in their options.

    Raises:
        ValueError: a method is given twice, or options were given for a modulation that no method contains.
    """
    options, dotted, _ = recipe_options(path, arguments)
    try:
        defaults = named_options(options.get("modulations"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if not all(isinstance(given, Mapping | None) for given in defaults.values()):
        raise ValueError(f"{path}: modulations must be a mapping from name to options, found {defaults!r}.")
    methods = [parse_method(text, defaults) for text in chosen.modulations]
    labels = [method.label for method in methods]
    twice = {label for label in labels if labels.count(label) > 1}
    if twice:
        raise ValueError(f"--modulations: {', '.join(sorted(twice))} is given twice.")
    check_used(methods, [name[1] for name, _ in dotted if name[0] == "modulations"])
    return methods


def changed_model_options(method: Method, base: Recipe) -> dict[str, Any]:
    """The model options of the method that the recipe does not have anyway.

    Raises:
        ValueError: there are some, but the recipe starts from a checkpoint.
    """
    changed = {name: value for name, value in method.model_options.items() if vars(base.model)[name] != value}
    if changed and base.model.model_name_or_path is not None:
        raise ValueError(
            f"{method.label} needs the model options {changed}, but the recipe starts from the checkpoint "
            f"{base.model.model_name_or_path!r}, whose model is as it is. Leave one of them out."
        )
    return changed


def not_applicable(
    method: Method, changed: Mapping[str, Any], base: Recipe, parse: Callable[[dict[str, Any]], Recipe]
) -> str:
    """Why the recipe's model cannot have the options that the method needs; empty if it can.

    Args:
        method: the method.
        changed: see `changed_model_options`.
        base: the recipe without modulations.
        parse: the same recipe with changed options.

    Raises:
        ValueError: the recipe's model cannot be built as it is.
    """
    if not changed and not method.start:
        return ""
    check_model(base)
    try:
        for modality in (base.model.modalities or [""]) if method.start else ():
            check_model(parse(alone_changes(base, modality)))
    except ValueError as error:
        return f"{method.start} trains each modality alone, which this recipe does not allow: {error}"
    try:
        check_model(parse({**changed, "modulations": None}))
    except ValueError as error:
        owners = " and ".join(method.owners)
        needed = ", ".join(f"{option}: {value}" for option, value in changed.items())
        return (
            f"{owners} needs a model with {needed}, which this recipe does not allow: {error} Change the recipe, or "
            f"leave {owners} out of --modulations."
        )
    return ""


def check_control(control: str | None, rows: Sequence[Row]) -> None:
    """Raises ValueError if no row is the control."""
    if control is not None and not any(is_control(row, control) for row in rows):
        labels = list(dict.fromkeys(row.label for row in rows))
        raise ValueError(
            f"--control: no method {control!r}.{did_you_mean(control, labels)} Methods: {', '.join(labels)}."
        )
