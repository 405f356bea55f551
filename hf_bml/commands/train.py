"""`hf-bml train RECIPE... [--seeds ...] [options]`; also `accelerate launch -m hf_bml.commands.train RECIPE ...`."""

from __future__ import annotations

import sys

from ..study.command_lines import train_parser
from ..study.errors import OneLineErrors, command


@command("train", help_parser=lambda: train_parser(OneLineErrors))
def main(arguments: list[str]) -> None:
    """Trains recipes; one run is reported, several are compared."""
    from ..study.parser import recipe_parser, series_options  # slow to import, as what follows
    from ..study.plan import plan_recipes
    from ..study.processes import end_processes
    from ..study.series import run_recipes

    parser = train_parser(recipe_parser)
    chosen = series_options(parser, arguments)
    plan = plan_recipes(parser, chosen, arguments)
    run_recipes(plan, chosen.compare, levels=(len(chosen.recipes) > 1) + (chosen.seeds is not None))
    end_processes()


if __name__ == "__main__":
    sys.exit(main())
