"""`hf-bml evaluate RUN_DIR [--split test]`: metrics of a finished run's model."""

from __future__ import annotations

import sys

from ..analysis.summary import run_table
from ..study.errors import command, is_main_process
from ..study.finished_run import evaluate
from ..study.parser import run_parser
from ..study.processes import end_processes

DESCRIPTION = "Evaluates a run's model and writes RUN_DIR/metrics_SPLIT.json."


@command("evaluate")
def main(arguments: list[str]) -> None:
    """Evaluates a run and prints its metrics."""
    chosen = run_parser(prog="hf-bml evaluate", description=DESCRIPTION).parse_args(arguments)
    metrics = evaluate(chosen.run_dir, chosen.split)
    end_processes()
    if is_main_process():
        print(run_table(metrics, {}))


if __name__ == "__main__":
    sys.exit(main())
