"""The plan of a comparison: every method on every recipe, with the model that it needs."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from ..analysis.comparison import Row, is_control
from ..ground.suggestion import did_you_mean
from .checks import check_compared_metric, check_model
from .methods import Method, check_used, parse_method
from .parser import RecipeParser
from .plan import Plan, check_name, check_series, plan_seeds
from .recipe import Recipe, parse_recipe, recipe_options, split_dotted


def plan_methods(parser: RecipeParser, chosen: argparse.Namespace, arguments: Sequence[str]) -> tuple[Plan, list[str]]:
    """The runs of `hf-bml compare`, recipe by recipe, method by method.

    Args:
        parser: of the command.
        chosen: what the command line says of the command's own options.
        arguments: the command line.

    Returns:
        the plan, and a sentence on every method that a recipe's encoders do not allow.

    Raises:
        ValueError, FileNotFoundError: a recipe, a method or an option that cannot be used.
    """
    check_series(chosen)
    check_name(chosen.name)
    plan: Plan = []
    left_out: list[str] = []
    for path in chosen.recipes:
        base = parse_recipe(parser, path, arguments, {"modulations": None})
        for method in methods_of(path, chosen, arguments):
            try:
                changed = changed_model_options(method, base)
                if reason := not_applicable(method, changed, base, partial(parse_recipe, parser, path, arguments)):
                    left_out.append(f"{base.name}, {method.label}: not applicable. {reason}")
                    continue
                row = Row(
                    method.label,
                    recipe=base.name if len(chosen.recipes) > 1 else "",
                    methods=method.names,
                    model=", ".join(f"{option}={value}" for option, value in changed.items()),
                    plain=method.plain,
                )
                changes = {**changed, "modulations": method.modulations or None}
                plan += plan_seeds(row, parser, path, arguments, changes, chosen.seeds)
            except ValueError as error:
                raise ValueError(f"{path}, {method.label}: {error}") from error
    if not plan:
        raise ValueError(" ".join(left_out))
    check_compared_metric(chosen.compare, plan[0][1])
    check_control(chosen.control, [row for row, _ in plan])
    return plan, left_out


def methods_of(path: str, chosen: argparse.Namespace, arguments: Sequence[str]) -> list[Method]:
    """The methods for one recipe, which has a say in their options.

    Raises:
        ValueError: a method is given twice, or options were given for a modulation that no method contains.
    """
    options, _ = recipe_options(path, arguments)
    defaults = options.get("modulations") or {}
    if not isinstance(defaults, Mapping) or not all(isinstance(d, Mapping | None) for d in defaults.values()):
        raise ValueError(f"{path}: modulations must be a mapping from name to options, found {defaults!r}.")
    methods = [parse_method(text, defaults) for text in chosen.modulations]
    labels = [method.label for method in methods]
    twice = {label for label in labels if labels.count(label) > 1}
    if twice:
        raise ValueError(f"--modulations: {', '.join(sorted(twice))} is given twice.")
    _, dotted = split_dotted(arguments)
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
    if not changed:
        return ""
    check_model(base)
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
