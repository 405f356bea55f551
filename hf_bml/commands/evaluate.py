"""`hf-bml evaluate RUN_DIR [--split test]`: metrics of a finished run's model."""

from __future__ import annotations

import sys

from ..analysis.summary import run_table
from ..study.errors import command
from ..study.finished_run import evaluate
from ..study.parser import run_parser

DESCRIPTION = "Evaluates a run's model and writes RUN_DIR/metrics_SPLIT.json."


@command("evaluate")
def main(arguments: list[str]) -> str:
    """Evaluates a run; returns its metrics."""
    chosen = run_parser(prog="hf-bml evaluate", description=DESCRIPTION).parse_args(arguments)
    return run_table(evaluate(chosen.run_dir, chosen.split), {})


if __name__ == "__main__":
    sys.exit(main())
