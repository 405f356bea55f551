"""The command line of `hf-bml compare`, with training and from records; imports nothing slow."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from .command_lines import Parser, series_parser
from .errors import OneLineErrors


def comparison_parser(make: Callable[..., Parser], description: str = "") -> Parser:
    """The command's options; `make` as for `series_parser`."""
    parser = series_parser(
        make,
        prog="hf-bml compare",
        usage="hf-bml compare RECIPE [RECIPE ...] --modulations METHOD [METHOD ...] [--seeds SEED ...] "
        "[--OPTION VALUE ...]\n       hf-bml compare --collect FILE [FILE ...] [--name NAME]",
        description=description,
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
