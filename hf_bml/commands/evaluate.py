"""`hf-bml evaluate RUN_DIR [--split test] [--dataset_options.data_files other.parquet]`: metrics of a saved model."""

from __future__ import annotations

import argparse
import math
import sys

from ..study.command_lines import run_parser
from ..study.errors import command

DESCRIPTION = """\
Evaluates a run's model and writes RUN_DIR/metrics_SPLIT.json.

In place of the run: one of its checkpoints (RUN_DIR/checkpoint-33), any folder of a model, or a Hub id. Options of the
recipe's data replace the run's own; then all rows of a source with one split are evaluated, and the result gets a file
of its own beside the first one, in RUN_DIR, or of a Hub id in runs/OWNER--NAME:

    hf-bml evaluate RUN_DIR --dataset_options.data_files other.parquet
    hf-bml evaluate me/model --dataset_options.path other.csv --dataset_options.label mood"""


@command("evaluate")
def main(arguments: list[str]) -> str:
    """Evaluates a model; returns its metrics, beside those of the run where it is another evaluation."""
    parser = run_parser(
        prog="hf-bml evaluate",
        usage="hf-bml evaluate RUN_DIR [--split SPLIT] [--dataset_options.OPTION VALUE ...]",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    chosen, others = parser.parse_known_args(arguments)
    from ..analysis.summary import markdown_table, run_table  # slow to import, as what follows
    from ..study.evaluation import evaluate_model

    found = evaluate_model(str(chosen.run_dir), chosen.split, others)
    if not others and not found.own:  # the run's own result
        return run_table(found.metrics, {})
    columns = [column for column in (found.own, found.metrics) if column]
    header = ("quantity", *(["the run itself"] if found.own else []), "here")
    rows = [[name, *(f"{column.get(name, math.nan):.4f}" for column in columns)] for name in found.metrics]
    return f"{markdown_table(header, rows)}\n\nwritten to {found.file}"


if __name__ == "__main__":
    sys.exit(main())
