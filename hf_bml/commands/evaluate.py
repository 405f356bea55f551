"""`hf-bml evaluate RUN_DIR [--split test]`: metrics of a finished run's model."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from ..analysis.summary import run_table
from ..data.splits import SPLITS
from ..suggestion import did_you_mean
from .assembly import build_data, build_model, build_trainer
from .checks import check_recipe
from .errors import BAD_INPUT, OneLineErrors, is_main_process, print_error
from .experiment import CONFIG_NAME, without_prefix
from .parser import quiet_libraries
from .recipe import parse_recipe
from .series import end_processes
from .train import build_parser as build_recipe_parser


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
    except (ValueError, FileNotFoundError) as error:
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
    if split not in SPLITS:
        raise ValueError(f"--split must be one of {', '.join(SPLITS)}, found {split!r}.{did_you_mean(split, SPLITS)}")
    if not (run_dir / CONFIG_NAME).is_file():
        raise FileNotFoundError(f"{run_dir} holds no {CONFIG_NAME}; expected a folder that hf-bml train wrote.")
    config = str(run_dir / CONFIG_NAME)
    here = [f"--model_name_or_path={run_dir}", f"--output_dir={run_dir}"]  # nothing lands where the training's would
    quiet = ["--resume_from_checkpoint=false", "--report_to=none", "--push_to_hub=false"]
    recipe = parse_recipe(build_recipe_parser(), config, [config, *here, *quiet])
    check_recipe(recipe)
    dataset, processor = build_data(recipe)
    trainer = build_trainer(recipe, dataset, build_model(recipe, None, 0), processor)
    metrics = without_prefix(trainer.evaluate(dataset[split], metric_key_prefix=split))
    if trainer.is_world_process_zero():
        (run_dir / f"metrics_{split}.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    return metrics


if __name__ == "__main__":
    sys.exit(main())
