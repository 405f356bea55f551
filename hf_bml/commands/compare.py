"""`hf-bml compare RECIPE... --modulations METHOD... [--seeds ...]`; `accelerate launch -m` works as for train."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..analysis.comparison import Row, is_control
from ..ground.suggestion import did_you_mean
from ..study.checks import check_compared_metric, check_model, check_recipe
from ..study.errors import BAD_INPUT, print_error
from ..study.methods import Method, check_used, parse_method
from ..study.parser import RecipeParser, quiet_libraries, series_parser
from ..study.recipe import Recipe, parse_recipe, recipe_options, split_dotted
from ..study.series import check_name, check_series, end_processes, output_root, own_folder, resume, run_series

DESCRIPTION = """\
Trains every method on every recipe, once per seed, tests it, and writes NAME.md, NAME.csv, NAME_runs.csv, NAME.json
and NAME.png into output_dir (default runs/<dataset>).

A method is `none`, or modulations joined by `+`, each with options if need be: `opm:q_base=0.3,lam=0.25+ogm`. Options
that it does not give come from --modulations.opm.q_base, else from the recipe's `modulations`, else from the defaults
below. A modulation that needs another model, such as one with an interaction, gets it; `none@METHOD` is plain training
of the model that METHOD needs. Where the recipe's encoders do not allow that model, the method is left out, and the
table's notes say why.

Every run has a folder METHOD-HASH/seed-SEED; the hash covers all options that change what is computed. A finished run
is not trained again; an interrupted one resumes from its newest checkpoint (unless --resume_from_checkpoint false)."""


def build_parser() -> RecipeParser:
    """The command's options, and those of the recipe."""
    parser = series_parser(
        prog="hf-bml compare",
        usage="hf-bml compare RECIPE [RECIPE ...] --modulations METHOD [METHOD ...] [--seeds SEED ...] "
        "[--OPTION VALUE ...]",
        description=DESCRIPTION,
        conflict_handler="resolve",  # --modulations names methods here
    )
    parser.add_argument(
        "--modulations", nargs="+", required=True, metavar="METHOD", help="The methods, one row each; see above."
    )
    parser.add_argument(
        "--control",
        default=None,
        metavar="METHOD",
        help="Also compare every row to the best row of this method, by validation; mod_drop means all its options.",
    )
    parser.add_argument("--name", default="comparison", help="What the names of the written files begin with.")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0, or 2 with one line on stderr for bad input."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    quiet_libraries()
    parser = build_parser()
    try:
        others, _ = split_dotted(arguments)
        chosen, _ = parser.parse_known_args(others)
        runs, left_out = plan(parser, chosen, arguments)
        folder = Path(runs[0][1].training.output_dir).parents[1]  # above METHOD-HASH/seed-SEED
        if runs[0][1].training.process_index == 0:
            print("".join(f"{note}\n" for note in left_out), end="")
        run_series(runs, folder, chosen.name, chosen.compare, chosen.control, left_out)
        end_processes()
    except (ValueError, OSError) as error:
        print_error("hf-bml compare", error)
        return BAD_INPUT
    return 0


def plan(
    parser: RecipeParser, chosen: argparse.Namespace, arguments: Sequence[str]
) -> tuple[list[tuple[Row, Recipe]], list[str]]:
    """All runs with their rows, recipe by recipe, method by method, validated before the first one starts; and a
    sentence on every method that a recipe's encoders do not allow."""
    check_series(chosen)
    check_name(chosen.name)
    runs: list[tuple[Row, Recipe]] = []
    left_out: list[str] = []
    for path in chosen.recipes:
        base = parse_recipe(parser, path, arguments, {"modulations": None})
        folder = output_root(base)
        for method in methods_of(path, chosen, arguments):
            changed = changed_model_options(method, base)
            if reason := not_applicable(method, base, partial(parse_recipe, parser, path, arguments)):
                left_out.append(f"{base.name}, {method.label}: not applicable. {reason}")
                continue
            row = Row(
                method.label,
                recipe=base.name if len(chosen.recipes) > 1 else "",
                methods=method.names,
                model=", ".join(f"{option}={value}" for option, value in changed.items()),
                plain=method.plain,
            )
            changes = {**changed, "modulations": method.modulations or None, "resume_from_checkpoint": resume(base)}
            try:
                recipe = parse_recipe(parser, path, arguments, changes)
                check_recipe(recipe)
            except ValueError as error:
                raise ValueError(f"{path}, {method.label}: {error}") from error
            for seed in chosen.seeds or [base.training.seed]:
                own = {"seed": seed, "output_dir": str(own_folder(folder, recipe, seed))}
                recipe = parse_recipe(parser, path, arguments, {**changes, **own})
                recipe.name = f"{base.name}, {method.label}"
                runs.append((row, recipe))
    if not runs:
        raise ValueError(" ".join(left_out))
    check_compared_metric(chosen.compare, runs[0][1])
    check_control(chosen.control, [row for row, _ in runs])
    return runs, left_out


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
    changed = {name: value for name, value in method.model_options.items() if getattr(base.model, name) != value}
    if changed and base.model.model_name_or_path is not None:
        raise ValueError(
            f"{method.label} needs the model options {changed}, but the recipe starts from the checkpoint "
            f"{base.model.model_name_or_path!r}, whose model is as it is. Leave one of them out."
        )
    return changed


def not_applicable(method: Method, base: Recipe, parse: Callable[[dict[str, Any]], Recipe]) -> str:
    """Why the recipe's model cannot have the options that the method needs; empty if it can.

    Args:
        method: the method.
        base: the recipe without modulations.
        parse: the same recipe with changed options.

    Raises:
        ValueError: the recipe's model cannot be built as it is.
    """
    changed = changed_model_options(method, base)
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


if __name__ == "__main__":
    sys.exit(main())
