"""`hf-bml sensitivity RECIPE --vary OPTION=VALUE,VALUE [--seeds ...]`; `accelerate launch -m` works as for train."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ..analysis.comparison import PLAIN, Row, best_row, write_csv
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
from ..study.checks import check_compared_metric, check_recipe
from ..study.errors import BAD_INPUT, print_error
from ..study.fingerprint import fingerprint
from ..study.methods import option_text
from ..study.parser import RecipeParser, quiet_libraries, series_parser
from ..study.recipe import OPTION_NAMES, Recipe, RecipeLoader, parse_recipe, split_dotted
from ..study.series import check_name, check_series, end_processes, output_root, own_folder, resume, run_plan

DESCRIPTION = """\
Trains a recipe with every combination of the given values, once per seed, and writes NAME.md, NAME.csv, NAME_runs.csv,
NAME.json and, for one or two options, NAME.png into output_dir (default runs/<dataset>).

Any option of a recipe can be varied: learning_rate=1e-3,1e-4, modulations.opm.q_base=0.3,0.4,0.5, fusion=concat,sum.
Values are YAML. The best setting is chosen on validation; test is shown beside it and chooses nothing.

Runs are kept as by hf-bml compare, in METHOD-HASH/seed-SEED: what either command has finished is not trained again."""
FIGURE_OPTIONS = 2  # a line or a heat map
ELSEWHERE = {"seed": "--seeds", "output_dir": "--output_dir", "resume_from_checkpoint": "--resume_from_checkpoint"}


def build_parser() -> RecipeParser:
    """The command's options, and those of the recipe."""
    parser = series_parser(
        prog="hf-bml sensitivity",
        usage="hf-bml sensitivity RECIPE --vary OPTION=VALUE,VALUE[,...] [--vary ...] [--seeds SEED ...] "
        "[--OPTION VALUE ...]",
        description=DESCRIPTION,
        conflict_handler="resolve",
    )
    parser.add_argument(
        "--vary",
        action="append",
        required=True,
        metavar="OPTION=VALUE,VALUE",
        help="An option of the recipe and its values; several of them give all combinations.",
    )
    parser.add_argument("--compare", default="accuracy", help="The metric; its validation value chooses.")
    parser.add_argument(
        "--baseline", action="store_true", help="Also train without modulations, as a line to compare."
    )
    parser.add_argument("--name", default="sensitivity", help="What the names of the written files begin with.")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0, or 2 with one line on stderr for bad input."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    quiet_libraries()
    parser = build_parser()
    try:
        others, _ = split_dotted(arguments)
        chosen, _ = parser.parse_known_args(others)
        sweep, runs = plan(parser, chosen, arguments)
        folder = Path(runs[0][1].training.output_dir).parents[1]  # above METHOD-HASH/seed-SEED
        run_plan(runs, folder, chosen.name, chosen.compare)
        if runs[0][1].training.process_index == 0:
            text = write_sensitivity(sweep, folder, chosen.name, chosen.compare, runs[0][1].data.dataset)
            print(f"\n{text}\nwritten to {folder / chosen.name}.md, .csv, _runs.csv and .json")
        end_processes()
    except (ValueError, OSError) as error:
        print_error("hf-bml sensitivity", error)
        return BAD_INPUT
    return 0


def plan(
    parser: RecipeParser, chosen: argparse.Namespace, arguments: Sequence[str]
) -> tuple[Sweep, list[tuple[Row, Recipe]]]:
    """All runs with their rows, setting by setting and seed by seed, validated before the first one starts."""
    check_series(chosen)
    check_name(chosen.name)
    if len(chosen.recipes) != 1:
        raise ValueError(f"expected one recipe, found {chosen.recipes}. Run the command once per recipe.")
    [path] = chosen.recipes
    sweep = Sweep(read_varied(chosen.vary))
    names = short_names(list(sweep.options))
    runs: list[tuple[Row, Recipe]] = []
    if chosen.baseline:
        sweep.baseline = Row(PLAIN, methods=PLAIN)
        runs += runs_of(sweep.baseline, parser, path, arguments, {"modulations": None}, chosen.seeds)
    for values in itertools.product(*sweep.options.values()):
        setting = dict(zip(sweep.options, values, strict=True))
        row = Row(", ".join(f"{names[option]}={option_text(value)}" for option, value in setting.items()))
        changes = {option: None for option, value in setting.items() if value is None and "." not in option}
        given = [*arguments, *[a for option, value in setting.items() for a in as_arguments(option, value)]]
        sweep.settings.append(setting)
        sweep.rows.append(row)
        runs += runs_of(row, parser, path, given, changes, chosen.seeds)
    check_different(runs)
    check_compared_metric(chosen.compare, runs[0][1])
    return sweep, runs


def runs_of(
    row: Row,
    parser: RecipeParser,
    path: str,
    arguments: Sequence[str],
    changes: Mapping[str, Any],
    seeds: Sequence[int] | None,
) -> list[tuple[Row, Recipe]]:
    """One setting's runs, a seed each."""
    try:
        base = parse_recipe(parser, path, arguments, changes)
        check_recipe(base)
    except ValueError as error:
        raise ValueError(f"{row.label}: {error}") from error
    runs = []
    for seed in seeds or [base.training.seed]:
        folder = own_folder(output_root(base), base, seed)
        own = {"seed": seed, "output_dir": str(folder), "resume_from_checkpoint": resume(base)}
        recipe = parse_recipe(parser, path, arguments, {**changes, **own})
        recipe.name = f"{base.name}, {row.label}"
        runs.append((row, recipe))
    return runs


def read_varied(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Reads `modulations.opm.q_base=0.3,0.4` into values per option.

    Raises:
        ValueError: another form, an unknown option, an option or a value that is given twice.

    Example:
        >>> read_varied(["modulations.opm.q_base=0.3,0.4", "learning_rate=1e-3"])
        {'modulations.opm.q_base': [0.3, 0.4], 'learning_rate': [0.001]}
    """
    options: dict[str, list[Any]] = {}
    for text in texts:
        option, equals, listed = text.partition("=")
        if not equals or not listed:
            raise ValueError(f"--vary: expected OPTION=VALUE,VALUE, found {text!r}.")
        first = option.split(".")[0]
        if first not in OPTION_NAMES:
            raise ValueError(f"--vary: unknown option {first!r}.{did_you_mean(first, OPTION_NAMES)}")
        if first in ELSEWHERE:
            raise ValueError(f"--vary: {first} has an option of its own, {ELSEWHERE[first]}.")
        try:
            values = yaml.load(f"[{listed}]", Loader=RecipeLoader)
        except (yaml.YAMLError, ValueError) as error:
            raise ValueError(f"--vary: the values {listed!r} cannot be read as YAML: {error}") from error
        if option in options:
            raise ValueError(f"--vary: {option} is given twice. Write all its values after one `=`.")
        if len(values) != len({json.dumps(value, default=str) for value in values}):
            raise ValueError(f"--vary: a value of {option} is given twice, found {listed}.")
        options[option] = values
    return options


def as_arguments(option: str, value: Any) -> list[str]:
    """An option's value as a command line gives it; nothing for a whole option that is None."""
    if "." in option:
        return [f"--{option}={option_text(value)}"]
    if value is None:
        return []
    if isinstance(value, list):
        return [f"--{option}", *map(str, value)]
    return [f"--{option}={json.dumps(value) if isinstance(value, (bool, dict)) else value}"]


def check_different(runs: Sequence[tuple[Row, Recipe]]) -> None:
    """Raises ValueError for two settings that compute the same: their runs would be one."""
    found: dict[str, str] = {}
    for row, recipe in runs:
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


if __name__ == "__main__":
    sys.exit(main())
