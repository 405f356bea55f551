"""The plan of a sweep, a recipe with every combination of some options' values, and its table."""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ..analysis.comparison_csv import write_csv
from ..analysis.references import best_row
from ..analysis.row import PLAIN, Row
from ..analysis.sensitivity import (
    Sweep,
    sensitivity_notes,
    sensitivity_records,
    sensitivity_runs,
    sensitivity_table,
    short_names,
)
from ..ground.disk import disk_errors_named
from ..ground.suggestion import did_you_mean
from .fingerprint import fingerprint
from .methods import option_text
from .metric_checks import compared_metric
from .parser import RecipeParser
from .plan import Plan, check_name, check_series, plan_seeds
from .recipe_blocks import OPTION_NAMES
from .recipe_yaml import RecipeLoader

FIGURE_OPTIONS = 2  # a line or a heat map
ELSEWHERE = {"seed": "--seeds", "output_dir": "--output_dir", "resume_from_checkpoint": "--resume_from_checkpoint"}


def plan_sweep(parser: RecipeParser, chosen: argparse.Namespace, arguments: Sequence[str]) -> tuple[Sweep, Plan]:
    """The runs of `hf-bml sensitivity`, setting by setting and seed by seed.

    Args:
        parser: of the command.
        chosen: what the command line says of the command's own options.
        arguments: the command line.

    Raises:
        ValueError, FileNotFoundError: the recipe, or an option, cannot be used.
    """
    check_series(chosen)
    check_name(chosen.name)
    if len(chosen.recipes) != 1:
        raise ValueError(f"expected one recipe, found {chosen.recipes}. Run the command once per recipe.")
    sweep = Sweep(read_varied(chosen.vary))
    for option in sweep.options:
        check_option("--vary", option)
    names = short_names(list(sweep.options))
    plan: Plan = []

    def add(row: Row, given: Sequence[str], changes: dict[str, Any]) -> None:
        try:
            plan.extend(plan_seeds(row, parser, chosen.recipes[0], [*arguments, *given], changes, chosen.seeds))
        except ValueError as error:
            raise ValueError(f"{row.label}: {error}") from error

    if chosen.baseline:
        sweep.baseline = Row(PLAIN, methods=PLAIN)
        add(sweep.baseline, (), {"modulations": None})
    for values in itertools.product(*sweep.options.values()):
        setting = dict(zip(sweep.options, values, strict=True))
        row = Row(", ".join(f"{names[option]}={option_text(value)}" for option, value in setting.items()))
        sweep.settings.append(setting)
        sweep.rows.append(row)
        add(row, *applied(setting))
    check_different(plan)
    chosen.compare = compared_metric(chosen.compare, plan[0][1])
    return sweep, plan


def read_varied(texts: Sequence[str], flag: str = "--vary") -> dict[str, list[Any]]:
    """Reads `modulations.opm.q_base=0.3,0.4` into values per option.

    Raises:
        ValueError: another form, an option that is given twice, or a value that is.

    Example:
        >>> read_varied(["modulations.opm.q_base=0.3,0.4", "learning_rate=1e-3"])
        {'modulations.opm.q_base': [0.3, 0.4], 'learning_rate': [0.001]}
    """
    options: dict[str, list[Any]] = {}
    for text in texts:
        option, equals, listed = text.partition("=")
        if not equals or not listed:
            raise ValueError(f"{flag}: expected OPTION=VALUE,VALUE, found {text!r}.")
        try:
            values = yaml.load(f"[{listed}]", Loader=RecipeLoader)
        except (yaml.YAMLError, ValueError) as error:
            raise ValueError(f"{flag}: the values {listed!r} cannot be read as YAML: {error}") from error
        if option in options:
            raise ValueError(f"{flag}: {option} is given twice. Write all its values after one `=`.")
        if len(values) != len({json.dumps(value, default=str) for value in values}):
            raise ValueError(f"{flag}: a value of {option} is given twice, found {listed}.")
        options[option] = values
    return options


def check_option(flag: str, option: str) -> None:
    """Raises ValueError unless a recipe has the option, and no other option of the command sets it."""
    first = option.split(".")[0]
    if first not in OPTION_NAMES:
        raise ValueError(f"{flag}: unknown option {first!r}.{did_you_mean(first, OPTION_NAMES)}")
    if first in ELSEWHERE:
        raise ValueError(f"{flag}: {first} has an option of its own, {ELSEWHERE[first]}.")


def applied(setting: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """A setting as further arguments of a command line, and as changes where these cannot say None."""
    changes = {option: None for option, value in setting.items() if value is None and "." not in option}
    return [a for option, value in setting.items() for a in as_arguments(option, value)], changes


def as_arguments(option: str, value: Any) -> list[str]:
    """An option's value as a command line gives it; nothing for a whole option that is None."""
    if "." in option:
        return [f"--{option}={option_text(value)}"]
    if value is None:
        return []
    if isinstance(value, list):
        return [f"--{option}", *map(str, value)]
    return [f"--{option}={json.dumps(value) if isinstance(value, (bool, dict)) else value}"]


def check_different(plan: Plan) -> None:
    """Raises ValueError for two settings that compute the same: their runs would be one."""
    found: dict[str, str] = {}
    for row, recipe in plan:
        other = found.setdefault(fingerprint(recipe), row.label)
        if other != row.label:
            raise ValueError(f"--vary: {other} and {row.label} compute the same. Leave one of them out.")


def write_sensitivity(sweep: Sweep, folder: Path, name: str, metric: str, dataset: str) -> str:
    """Writes `NAME.md`, `NAME.csv` (a line per setting), `NAME_runs.csv` (a line per run) and `NAME.png`.

    Returns:
        the Markdown: the table and what a reader must know.
    """
    text = "\n\n".join([sensitivity_table(sweep, metric), *sensitivity_notes(sweep, metric)]) + "\n"
    with disk_errors_named(folder):
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
        write_csv(sensitivity_records(sweep), folder / f"{name}.csv")
        write_csv(sensitivity_runs(sweep), folder / f"{name}_runs.csv")
        draw_sensitivity(sweep, folder / f"{name}.png", metric, dataset)
    return text


def draw_sensitivity(sweep: Sweep, path: Path, metric: str, dataset: str) -> None:
    """The picture, if matplotlib is installed and there are at most two options."""
    if len(sweep.options) > FIGURE_OPTIONS:
        print(f"{path.name} is not drawn: it shows one or two options, found {len(sweep.options)}.")
        return
    try:
        from ..figures.sensitivity_grid import plot_sensitivity
    except ImportError:
        print(f"{path.name} is not drawn: matplotlib is missing. Install it with: pip install 'hf_bml[plots]'")
        return
    plot_sensitivity(sweep, path, metric, best_row(sweep.rows, metric), title=str(dataset))
