"""`hf-bml evaluate RUN_DIR [--split test]`: metrics of a finished run's model."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from ..analysis.summary import run_table
from ..study.errors import BAD_INPUT, OneLineErrors, is_main_process, print_error
from ..study.experiment import without_prefix
from ..study.finished_run import check_split, load_run
from ..study.json_file import write_json
from ..study.parser import quiet_libraries
from ..study.series import end_processes


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0, or 2 with one line on stderr for bad input."""
    parser = OneLineErrors(
        prog="hf-bml evaluate", description="Evaluates a run's model and writes RUN_DIR/metrics_SPLIT.json."
    )
    parser.add_argument("run_dir", type=Path, help="folder that hf-bml train wrote")
    parser.add_argument("--split", default="test", help="train, validation or test (default: test)")
    quiet_libraries()
    try:
        chosen = parser.parse_args(arguments)
        metrics = evaluate(chosen.run_dir, chosen.split)
        end_processes()
    except (ValueError, OSError) as error:
        print_error("hf-bml evaluate", error)
        return BAD_INPUT
    if is_main_process():
        print(run_table(metrics, {}))
    return 0


def evaluate(run_dir: Path, split: str) -> dict[str, float]:
    """Metrics of the saved model on a split, also written to `metrics_<split>.json`.

    Raises:
        FileNotFoundError: not a run's folder.
        ValueError: unknown split, or a model or options that cannot be used.
    """
    check_split(split)
    run = load_run(run_dir)
    trainer = run.trainer()
    metrics = without_prefix(trainer.evaluate(run.dataset[split], metric_key_prefix=split))
    if trainer.is_world_process_zero():
        write_json(metrics, run_dir / f"metrics_{split}.json")
    return metrics


if __name__ == "__main__":
    sys.exit(main())
