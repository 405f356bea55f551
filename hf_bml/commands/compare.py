"""`hf-bml compare RECIPE... --modulations METHOD... [--seeds ...]`; `accelerate launch -m` works as for train."""

from __future__ import annotations

import sys

from ..study.comparison import plan_methods
from ..study.errors import command
from ..study.parser import RecipeParser, series_options, series_parser
from ..study.plan import common_folder
from ..study.series import end_processes, run_series

DESCRIPTION = """\
Trains every method on every recipe, once per seed, tests it, and writes NAME.md, NAME.csv, NAME_runs.csv, NAME.json
and NAME.png into output_dir (default runs/<dataset>).

A method is `none`, or modulations and bundles of them joined by `+`, each modulation with options if need be:
`opm:q_base=0.3,lam=0.25+ogm`, `balanced`, `balanced+mod_drop:p=0.3`. Options that it does not give come from
--modulations.opm.q_base, else from the recipe's `modulations`, else from the defaults below. A modulation that needs
another model, such as one with an interaction, gets it; `none@METHOD` is plain training of the model that METHOD
needs. Where the recipe's encoders do not allow that model, the method is left out, and the table's notes say why.

Every run has a folder METHOD-HASH/seed-SEED; the hash covers all options that change what is computed. A finished run
is not trained again; an interrupted one resumes from its newest checkpoint (--resume_from_checkpoint false: anew)."""


@command("compare")
def main(arguments: list[str]) -> None:
    """Trains every method on every recipe and compares them."""
    parser = build_parser()
    chosen = series_options(parser, arguments)
    plan, left_out = plan_methods(parser, chosen, arguments)
    if plan[0][1].training.process_index == 0:
        print("".join(f"{note}\n" for note in left_out), end="")
    run_series(plan, common_folder(plan), chosen.name, chosen.compare, chosen.control, left_out)
    end_processes()


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


if __name__ == "__main__":
    sys.exit(main())
