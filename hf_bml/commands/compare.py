"""`hf-bml compare RECIPE... --modulations METHOD... [--seeds ...]`; `accelerate launch -m` works as for train."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ..analysis.metric_names import MEASURED, metric_names
from ..analysis.records import read_records, rows_of
from ..ground.disk import check_writable
from ..study.after_run import AfterRun
from ..study.comparison import Contender, check_control, plan_methods
from ..study.comparison_files import pictures, write_comparison
from ..study.corruption_choice import parse_corruptions
from ..study.errors import OneLineErrors, command
from ..study.metric_checks import check_metric
from ..study.parser import RecipeParser, series_options, series_parser
from ..study.plan import check_name, common_folder
from ..study.processes import end_processes
from ..study.robustness_after_run import measure_robustness
from ..study.run_model import recipe_modalities
from ..study.series import run_series
from ..study.setting_search import choose_settings
from ..study.shard import Shard, parse_shard
from ..training.training_args import BalancedTrainingArguments

DESCRIPTION = """\
Trains every method on every recipe, once per seed, tests it, and writes NAME.md, NAME.csv, NAME_runs.csv, NAME.json,
NAME.jsonl and NAME.png (of several data sets NAME_SET.png) into output_dir (default runs/<dataset>).

A method is `none`, or modulations and bundles of them joined by `+`, each modulation with options if need be:
`opm:q_base=0.3,lam=0.25+ogm`, `balanced`, `balanced+mod_drop:p=0.3`. Options that it does not give come from
--modulations.opm.q_base, else from the recipe's `modulations`, else from the defaults below. A modulation that needs
another model, such as one with an interaction, gets it; `none@METHOD` is plain training of the model that METHOD
needs. Where the recipe's encoders do not allow that model, the method is left out, and the table's notes say why.

Three methods are made of models of one modality each, trained by the same recipe: `unimodal` is the one that is best
on validation, `ensemble` all of them together (ensemble:average=logits: the mean of logits, not of probabilities), and
`unimodal_init` joint training from their encoders (unimodal_init+opm). Their runs are shared.

Protocols: --train_per_class 20 draws few training rows by the seed. --folds 6 tests each of six folds once, along the
data set's column `group` if it has one. --search, with --budget 4, tries at most four settings of each method, its own
first and then a seeded sample, on one seed (and the first fold), chooses on validation, and runs the seeds with that.

--robustness also evaluates every finished run with noisy and with missing modalities, and probes its encoders, as
hf-bml robustness does, and adds these columns; --select robust/missing_average chooses by one of them, on validation.
What a finished run was not measured for yet is measured when the command is given again.

NAME.jsonl holds every run, and --collect FILE [FILE ...] writes the tables from such files without training; those of
several data sets are pooled, and methods that all sets have are ranked and tested. With it only --compare, --control,
--columns, --name and --output_dir have a meaning.

--shard 2/8 trains the second of eight shares of the runs; start all eight, on any machines with a shared output_dir.
What a killed shard has begun is resumed by another; whichever finds all runs finished writes the table.

Every run has a folder METHOD-HASH/seed-SEED; the hash covers all options that change what is computed. A finished run
is not trained again; an interrupted one resumes from its newest checkpoint (--resume_from_checkpoint false: anew)."""


@command("compare")
def main(arguments: list[str]) -> None:
    """Trains every method on every recipe and compares them."""
    if any(argument.partition("=")[0] == "--collect" for argument in arguments):
        collect(collect_parser().parse_args(arguments))
        return
    parser = build_parser()
    chosen = series_options(parser, arguments)
    contenders, left_out = plan_methods(parser, chosen, arguments)
    recipe = contenders[0].trials[0].recipe
    shard = shard_of(chosen, recipe.training)
    if recipe.training.process_index == 0:
        print("".join(f"{note}\n" for note in left_out), end="")
        if chosen.records is not None:
            check_writable(chosen.records.parent)
    select = chosen.select or chosen.compare
    search, final = measures(chosen, select, contenders)
    plan = choose_settings(contenders, select, search, shard)
    options = {"columns": chosen.columns, "records": chosen.records, "after": final, "shard": shard}
    run_series(plan, common_folder(plan), chosen.name, chosen.compare, chosen.control, left_out, **options)
    end_processes()


def shard_of(chosen: argparse.Namespace, training: BalancedTrainingArguments) -> Shard | None:
    """The share of the runs that the command line asks for; None for all.

    Raises:
        ValueError: it cannot be used.
    """
    if chosen.shard is None:
        return None
    if chosen.claim_timeout <= 0:
        raise ValueError(f"--claim_timeout must be above 0 seconds, found {chosen.claim_timeout:g}.")
    index, count = parse_shard(chosen.shard)
    return Shard(index, count, chosen.claim_timeout, training.process_index == 0, training.world_size)


def measures(
    chosen: argparse.Namespace, select: str, contenders: Sequence[Contender]
) -> tuple[list[AfterRun], list[AfterRun]]:
    """What is measured of the runs of a search, on validation and only if it chooses, and of the others.

    Raises:
        ValueError: an option needs --robustness, or a corruption that cannot be used.
    """
    needing = {
        "--select": select,
        "--compare": chosen.compare,
        **{f"--columns {name}": name for name in chosen.columns},
    }
    for option, metric in needing.items():
        if metric.removeprefix("validation_").startswith(MEASURED) and not chosen.robustness:
            raise ValueError(f"{option.split()[0]}: {metric} is measured after a run. Add --robustness.")
    if chosen.corruptions is not None and not chosen.robustness:
        raise ValueError("--corruptions says what --robustness measures. Add --robustness.")
    if not chosen.robustness:
        return [], []
    recipes = [trial.recipe for contender in contenders for trial in contender.trials]
    modalities = list(dict.fromkeys(name for recipe in recipes for name in recipe_modalities(recipe)))
    corruptions = parse_corruptions(chosen.corruptions, modalities)
    chooses = select.removeprefix("validation_").startswith(MEASURED)
    search = measure_robustness(["validation"], corruptions) if chooses else []
    return search, measure_robustness(["validation", "test"], corruptions)


def collect(chosen: argparse.Namespace) -> None:
    """Writes the tables of runs that are recorded in files."""
    check_name(chosen.name)
    rows = rows_of(read_records(chosen.collect))
    if not rows:
        raise ValueError(f"--collect: {', '.join(map(str, chosen.collect))} hold no run but those of searches.")
    known = metric_names(rows)
    for option, metrics in (("--compare", [chosen.compare]), ("--columns", chosen.columns)):
        for metric in metrics:
            check_metric(option, metric, known)
    check_control(chosen.control, rows)
    check_writable(chosen.output_dir)
    title = ", ".join(dict.fromkeys(row.dataset for row in rows))
    text = write_comparison(
        rows, chosen.output_dir, chosen.name, chosen.compare, chosen.control, title, columns=chosen.columns
    )
    print(f"{text}\nwritten to {chosen.output_dir / chosen.name}.md, .csv, _runs.csv and {', '.join(pictures(rows))}")


def build_parser() -> RecipeParser:
    """The command's options, and those of the recipe."""
    parser = series_parser(
        prog="hf-bml compare",
        usage="hf-bml compare RECIPE [RECIPE ...] --modulations METHOD [METHOD ...] [--seeds SEED ...] "
        "[--OPTION VALUE ...]\n       hf-bml compare --collect FILE [FILE ...] [--name NAME]",
        description=DESCRIPTION,
        conflict_handler="resolve",  # --modulations names methods here
    )
    parser.add_argument(
        "--modulations", nargs="+", required=True, metavar="METHOD", help="The methods, one row each; see above."
    )
    add_table_options(parser)
    parser.add_argument("--records", type=Path, default=None, help="Where to write the runs instead of NAME.jsonl.")
    parser.add_argument(
        "--search",
        action="append",
        default=None,
        metavar="OPTION=VALUE,VALUE",
        help="Values to try: METHOD.OPTION, such as opm.q_base, or *.OPTION for an option of every method's recipe.",
    )
    parser.add_argument(
        "--budget", type=int, default=None, help="Try at most so many settings of a method; default: all."
    )
    parser.add_argument(
        "--search_seed", type=int, default=None, help="Of the search and its runs; default: the first of the seeds."
    )
    parser.add_argument(
        "--robustness", action="store_true", help="Evaluate every run with noisy and with missing modalities, too."
    )
    parser.add_argument(
        "--corruptions",
        nargs="+",
        default=None,
        metavar="MODALITY.NAME[:OPTION=VALUE]",
        help="Those of --robustness, such as audio.babble:snr=0; default: all that fit.",
    )
    parser.add_argument(
        "--select", default=None, metavar="METRIC", help="Its value on validation chooses; default: that of --compare."
    )
    parser.add_argument(
        "--shard",
        default=None,
        metavar="INDEX/COUNT",
        help="Train a share of the runs, beside other shards; see above.",
    )
    parser.add_argument(
        "--claim_timeout",
        type=float,
        default=600,
        metavar="SECONDS",
        help="A shard whose claim on a run was not renewed for so long counts as dead; default: 600.",
    )
    return parser


def collect_parser() -> OneLineErrors:
    """The options with --collect."""
    parser = OneLineErrors(prog="hf-bml compare --collect", allow_abbrev=False)
    parser.add_argument("--collect", nargs="+", type=Path, metavar="FILE", help="NAME.jsonl of finished comparisons.")
    parser.add_argument("--compare", default="accuracy", help="Test metric of the paired differences.")
    parser.add_argument("--output_dir", type=Path, default=Path("."), help="Folder for the tables.")
    add_table_options(parser)
    return parser


def add_table_options(parser: argparse.ArgumentParser) -> None:
    """The options of the tables, with and without training."""
    parser.add_argument(
        "--control",
        default=None,
        metavar="METHOD",
        help="Also compare every row to the best row of this method, by validation; mod_drop means all its options.",
    )
    parser.add_argument("--columns", nargs="+", default=[], metavar="METRIC", help="Further metrics to show.")
    parser.add_argument("--name", default="comparison", help="What the names of the written files begin with.")


if __name__ == "__main__":
    sys.exit(main())
