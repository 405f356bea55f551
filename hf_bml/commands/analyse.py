"""`hf-bml analyse RUN_DIR [--split test]`: what a finished run's model makes of each class and each modality."""

from __future__ import annotations

import sys

from ..study.command_lines import run_parser
from ..study.errors import command

DESCRIPTION = """\
Writes RUN_DIR/analysis_SPLIT.json: accuracy per class, confusion matrix, calibration, the Shapley value of every
modality, and t-SNE of its features. A modality's own predictions are the model's estimate (unimodal_logits)."""


@command("analyse")
def main(arguments: list[str]) -> str:
    """Analyses a run; returns the tables."""
    chosen = run_parser(prog="hf-bml analyse", description=DESCRIPTION).parse_args(arguments)
    from ..study.analyse import analyse_run, analysis_path, analysis_text  # slow to import

    found = analyse_run(chosen.run_dir, chosen.split)
    return f"{analysis_text(found)}\n\nwritten to {analysis_path(chosen.run_dir, chosen.split)}"


if __name__ == "__main__":
    sys.exit(main())
