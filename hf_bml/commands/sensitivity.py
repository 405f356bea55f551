"""`hf-bml sensitivity RECIPE --vary OPTION=VALUE,VALUE [--seeds ...]`; `accelerate launch -m` works as for train."""

from __future__ import annotations

import sys
from collections.abc import Callable

from ..study.command_lines import Parser, series_parser
from ..study.errors import OneLineErrors, command

DESCRIPTION = """\
Trains a recipe with every combination of the given values, once per seed, and writes NAME.md, NAME.csv, NAME_runs.csv,
NAME.json and, for one or two options, NAME.png into output_dir (default runs/<dataset>).

Any option of a recipe can be varied: learning_rate=1e-3,1e-4, modulations.opm.q_base=0.3,0.4,0.5, fusion=concat,sum.
Values are YAML. The best setting is chosen on validation; test is shown beside it and chooses nothing.

Runs are kept as by hf-bml compare, in METHOD-HASH/seed-SEED: what either command has finished is not trained again."""


@command("sensitivity", help_parser=lambda: build_parser(OneLineErrors))
def main(arguments: list[str]) -> None:
    """Trains a recipe with every combination of some options' values."""
    from ..study.parser import recipe_parser, series_options  # slow to import, as what follows
    from ..study.plan import common_folder
    from ..study.processes import end_processes
    from ..study.series import run_plan
    from ..study.sweep import plan_sweep, write_sensitivity

    parser = build_parser(recipe_parser)
    chosen = series_options(parser, arguments)
    sweep, plan = plan_sweep(parser, chosen, arguments)
    folder, first = common_folder(plan), plan[0][1]
    run_plan(plan, folder, chosen.name, chosen.compare)
    if first.training.process_index == 0:
        text = write_sensitivity(sweep, folder, chosen.name, chosen.compare, first.data.dataset)
        print(f"\n{text}\nwritten to {folder / chosen.name}.md, .csv, _runs.csv and .json")
    end_processes()


def build_parser(make: Callable[..., Parser]) -> Parser:
    """The command's options; `make` as for `series_parser`."""
    parser = series_parser(
        make,
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


if __name__ == "__main__":
    sys.exit(main())
