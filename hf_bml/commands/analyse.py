"""`hf-bml analyse RUN_DIR [--split test]`: what a finished run's model makes of each class and each modality."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..analysis.calibration import calibration
from ..analysis.category_wise import class_counts, per_class_accuracy
from ..analysis.coalitions import MAX_MODALITIES, all_coalitions, coalition_name
from ..analysis.confusion import confusion
from ..analysis.embedding import embed_modalities
from ..analysis.predictions import Predictions
from ..analysis.shapley import shapley_values
from ..analysis.summary import markdown_table
from ..study.errors import BAD_INPUT, OneLineErrors, is_main_process, print_error
from ..study.finished_run import FinishedRun, check_split, load_run, predict
from ..study.json_file import write_json
from ..study.parser import quiet_libraries
from ..study.series import end_processes
from ..study.tensorboard_log import log_to_tensorboard

JOINT = "joint"
DESCRIPTION = """\
Writes RUN_DIR/analysis_SPLIT.json: accuracy per class, confusion matrix, calibration, the Shapley value of every
modality, and t-SNE of its features. A modality's own predictions are the model's estimate (unimodal_logits)."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0, or 2 with one line on stderr for bad input."""
    parser = OneLineErrors(prog="hf-bml analyse", description=DESCRIPTION)
    parser.add_argument("run_dir", type=Path, help="folder that hf-bml train wrote")
    parser.add_argument("--split", default="test", help="train, validation or test (default: test)")
    quiet_libraries()
    try:
        chosen = parser.parse_args(arguments)
        found = analyse_run(chosen.run_dir, chosen.split)
        end_processes()
    except (ValueError, OSError) as error:
        print_error("hf-bml analyse", error)
        return BAD_INPUT
    if is_main_process():
        print(report(found))
        print(f"\nwritten to {analysis_path(chosen.run_dir, chosen.split)}")
    return 0


def analysis_path(run_dir: str | Path, split: str) -> Path:
    """Where the analysis of a split lies."""
    return Path(run_dir) / f"analysis_{split}.json"


def analyse_run(run_dir: str | Path, split: str = "test") -> dict[str, Any]:
    """Analyses a run's final model on a split.

    Writes `analysis_<split>.json` and, if the run has one, into its TensorBoard log.

    Under a launcher all processes predict, and each computes the rest; the main process writes.

    Args:
        run_dir: folder that `hf-bml train` wrote.
        split: train (not augmented), validation or test.

    Returns:
        JSON-able: `split`; the number of `samples` and of `predictions`, several per sample where a model labels
        segments, and everything below is of these; `classes`, their names; `per_class` accuracies and `calibration`
        of `joint` and of each modality's own predictions, over those that have it, None for a class without; `counts`
        per class; `confusion` (rows are true classes); `shapley` with `values` per modality and the accuracies of
        `coalitions` behind them, None for more than 6 modalities; `tsne`, `[x, y, label]` of at most 1000 per
        modality, and of all features side by side under `joint`.

    Raises:
        FileNotFoundError: not a run's folder.
        ValueError: unknown split, or a model whose outputs are not a classification.
    """
    check_split(split)
    run = load_run(run_dir)
    trainer = run.trainer()
    dataset = run.dataset[split]
    classes = class_names(trainer.model.config)
    predictions = predict(trainer, dataset, with_features=True)
    found: dict[str, Any] = {"split": split, "samples": len(np.unique(predictions.samples))}
    found |= {"predictions": len(predictions.labels), "classes": classes}
    found |= describe_predictions(predictions, len(classes))
    found["shapley"] = shapley(run, trainer, dataset, predictions)
    found["tsne"] = tsne_pictures(predictions)
    if trainer.is_world_process_zero():
        write_json(found, analysis_path(run_dir, split))
        log_to_tensorboard(run, split, {None: scalars(found)})
    return found


def scalars(found: dict[str, Any]) -> dict[str, float]:
    """Calibration errors and Shapley values, as trackers know them; what there is per class is in the JSON alone."""
    named = {f"analysis/ece_{name}": value["ece"] for name, value in found["calibration"].items()}
    shares = found["shapley"]["values"] if found["shapley"] else {}
    return {**named, **{f"analysis/shapley_{name}": value for name, value in shares.items()}}


def class_names(config: Any) -> list[str]:
    """The names of a model's classes, by number."""
    return [str(config.id2label[index]) for index in range(config.num_labels)]


def describe_predictions(predictions: Predictions, num_classes: int) -> dict[str, Any]:
    """`per_class`, `counts`, `confusion` and `calibration`, see `analyse_run`."""
    everything = {JOINT: (predictions.logits, predictions.labels)}
    for name, logits in predictions.unimodal_logits.items():
        there = predictions.present[name]
        if there.any():
            everything[name] = logits[there], predictions.labels[there]
    per_class = {name: per_class_accuracy(*both, num_classes) for name, both in everything.items()}
    return {
        "per_class": {name: none_for_nan(values) for name, values in per_class.items()},
        "counts": class_counts(predictions.labels, num_classes).tolist(),
        "confusion": confusion(predictions.logits, predictions.labels, num_classes).tolist(),
        "calibration": {name: calibration(*both) for name, both in everything.items()},
    }


def none_for_nan(values: np.ndarray) -> list[float | None]:
    """The values as JSON has them."""
    return [None if math.isnan(value) else float(value) for value in values]


def shapley(run: FinishedRun, trainer: Any, dataset: Any, predictions: Predictions) -> dict[str, Any] | None:
    """Shapley values of the modalities for the accuracy; absent modalities are marked absent, their features zero."""
    modalities = list(predictions.unimodal_logits)
    if len(modalities) > MAX_MODALITIES:
        return None
    scores = {}
    for coalition in all_coalitions(modalities):
        absent = [name for name in modalities if name not in coalition]
        seen = predict(trainer, dataset, absent=absent, absence="modality_mask") if absent else predictions
        scores[coalition] = float(seen.correct.mean())
    return {
        "values": shapley_values(scores, modalities),
        "coalitions": {coalition_name(coalition): score for coalition, score in scores.items()},
    }


def tsne_pictures(predictions: Predictions) -> dict[str, Any]:
    """t-SNE of each modality's features and, of several, of all of them side by side."""
    features, present = dict(predictions.features), dict(predictions.present)
    if len(features) > 1:
        features[JOINT] = np.concatenate(list(features.values()), axis=1)
        present[JOINT] = np.ones(len(predictions.labels), dtype=bool)
    return embed_modalities(features, predictions.labels, present)


def report(found: dict[str, Any]) -> str:
    """The printed tables: accuracy per class, then accuracy, calibration error and Shapley value."""
    names = list(found["per_class"])
    rows = [
        [label, str(count), *[percent(found["per_class"][name][index]) for name in names]]
        for index, (label, count) in enumerate(zip(found["classes"], found["counts"], strict=True))
    ]
    tables = [markdown_table(["accuracy of class, %", "samples", *names], rows)]
    shares = found["shapley"]["values"] if found["shapley"] else {}
    rows = []
    for name in names:
        bins = found["calibration"][name]["bins"]
        accuracy = sum(b["accuracy"] * b["count"] for b in bins) / sum(b["count"] for b in bins)
        rows.append([name, percent(accuracy), percent(found["calibration"][name]["ece"]), percent(shares.get(name))])
    tables.append(markdown_table(["predictions of", "accuracy, %", "calibration error, %", "Shapley value, %"], rows))
    return f"{found['split']} split, {found['predictions']} predictions\n\n" + "\n\n".join(tables)


def percent(value: float | None) -> str:
    """Times 100 with one digit; a dash for None."""
    return "-" if value is None else f"{100 * value:.1f}"


if __name__ == "__main__":
    sys.exit(main())
