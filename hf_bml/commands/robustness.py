"""`hf-bml robustness RUN [RUN ...] [--split test]`: what is left when a modality is missing or noisy."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..study.errors import OneLineErrors, command

DESCRIPTION = """\
Evaluates finished runs on clean data, with every modality noisy (every corruption that fits it, at several
severities), and with every modality missing; of three and more, every pair, too. Noise depends on seed, row, modality
and kind of corruption alone, so all runs see the same. Every encoder's features are probed as hf-bml probe does it;
the weak one is that of the modality whose absence costs least on the validation split. Writes robustness_SPLIT.json
into every run's folder.

Where the joint prediction is the sum of the modalities' own ones (fusion: concat, sum, bounded), votes.png shows how
large each of them is under each corruption, and --trust lowers votes that come from unusual features: times
min(1, d80 / d)^2, with d their Mahalanobis distance to the nearest class mean of training, and d80 that within which
80 % of the validation split lies.

A RUN is a run's folder, or one above several, such as the output_dir of hf-bml compare. Of several runs a table and
robustness.png compare them; the dominant modality of all is then that of training without modulations, else of the
first run: the one whose absence costs most on the validation split."""


@command("robustness")
def main(arguments: list[str]) -> str:
    """Evaluates runs under corruption; returns the tables."""
    chosen = build_parser().parse_args(arguments)
    from ..study.robustness_series import robustness_of_runs  # slow to import

    return robustness_of_runs(**vars(chosen))


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = OneLineErrors(prog="hf-bml robustness", description=DESCRIPTION)
    parser.add_argument("run_dirs", nargs="+", type=Path, metavar="RUN", help="folders of finished runs")
    parser.add_argument("--split", default="test", help="train, validation or test (default: test)")
    parser.add_argument(
        "--corruptions",
        nargs="+",
        metavar="MODALITY.NAME[:OPTION=VALUE]",
        help="such as audio.white_noise (its default severities) audio.babble:snr=0; default: all that fit",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the noise (default: 0)")
    parser.add_argument("--dominant", metavar="MODALITY", help="the dominant modality, instead of validation's choice")
    parser.add_argument(
        "--trust",
        action="store_true",
        help="measure once more with votes that count less the farther a modality's features lie from training's",
    )
    parser.add_argument("--output", type=Path, help="folder of the pictures (default: above the first run)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
