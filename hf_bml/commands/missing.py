"""`hf-bml missing RUN_DIR [--split test]`: accuracy when modalities are missing at random (paper Fig. 6)."""

from __future__ import annotations

import argparse
import sys

from ..study.command_lines import run_parser
from ..study.errors import command

DESCRIPTION = """\
Writes RUN_DIR/missing.json: every sample loses every modality at random, one modality at a fixed rate, another one at
several. Masks depend on seed, modality and number of samples alone, so all runs on the same data see the same."""


@command("missing")
def main(arguments: list[str]) -> str:
    """Evaluates a run with missing modalities; returns the table."""
    chosen = build_parser().parse_args(arguments)
    from ..study.missing import MISSING_NAME, missing_run, missing_text  # slow to import

    found = missing_run(**vars(chosen))
    return f"{missing_text(found)}\n\nwritten to {chosen.run_dir / MISSING_NAME}"


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = run_parser(prog="hf-bml missing", description=DESCRIPTION)
    parser.add_argument("--fixed", nargs="+", metavar="MODALITY", help="missing at a fixed rate (default: each)")
    parser.add_argument("--varied", nargs="+", metavar="MODALITY", help="missing at several rates (default: each)")
    parser.add_argument(
        "--fixed_rates", nargs="+", type=float, default=argparse.SUPPRESS, help="default: the paper's 0.1 0.2"
    )
    parser.add_argument(
        "--rates", nargs="+", type=float, default=argparse.SUPPRESS, help="default: the paper's nine, 0.1 to 0.3"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=argparse.SUPPRESS, help="of the masks; default: 0-4")
    parser.add_argument(
        "--absence",
        default=argparse.SUPPRESS,
        help="modality_mask (default): the model is told, and the modality's feature is zero; zero_input, as in the "
        "paper: the input tensor is zero, which in a log spectrogram is loud noise, not silence",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
