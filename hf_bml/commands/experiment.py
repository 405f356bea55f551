"""One run: data, model and trainer of a recipe, and what a finished run leaves in its folder."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import DatasetDict, LargeList, List

from ..data import data_report
from ..preflight import check_dataset
from .assembly import build_data, build_model, build_trainer
from .checks import METRICS_NAME, check_best_metric, resume_point
from .fingerprint import fingerprint
from .recipe import Recipe, write_recipe

CONFIG_NAME = "config.yaml"
CURVES_NAME = "curves.png"


def label_names(dataset: DatasetDict) -> tuple[list[str] | None, int]:
    """Class names (None for plain integer labels) and the number of classes, from the training split."""
    feature = dataset["train"].features["labels"]
    while isinstance(feature, (List, LargeList)):  # a label per segment
        feature = feature.feature
    names = getattr(feature, "names", None)
    if names is not None:
        return list(names), len(names)
    labels = dataset["train"].with_format(None).select_columns("labels")["labels"][:]
    return None, int(np.max(labels)) + 1


def run(recipe: Recipe) -> dict[str, Any]:
    """Trains, tests and saves one recipe; everything lands in `recipe.training.output_dir`.

    The model is saved before it is evaluated, so that a failure there loses nothing.

    Returns:
        what `metrics.json` holds: `validation` and `test` metrics, `final_ratios`, the summaries of `modulations` that
        have one; `left_out` (samples that the data set lacks, by split and reason) and `failures` (files that could
        not be used) if there are any; `train_seconds` and the checkpoint that the training went on from (the time is
        of what was left), `seed`, `fingerprint`, `environment`.
    """
    what = fingerprint(recipe)
    dataset, processor = build_data(recipe)
    model = build_model(recipe, *label_names(dataset))
    modalities = list(model.encoders)
    check_best_metric(recipe, modalities, model.config.num_labels)
    for split in ("train", "validation", "test"):
        check_dataset(dataset[split], split, modalities, model.config.num_labels)
    trainer = build_trainer(recipe, dataset, model, processor)
    checkpoint = resume_point(recipe)
    started = time.perf_counter()
    trainer.train(resume_from_checkpoint=checkpoint)
    train_seconds = time.perf_counter() - started
    history = list(trainer.state.log_history)
    folder = Path(recipe.training.output_dir)
    trainer.save_model()
    if trainer.is_world_process_zero():
        if processor is not None:
            processor.save_pretrained(folder)
        write_recipe(repeatable_options(recipe), folder / CONFIG_NAME)
        trainer.state.save_to_json(str(folder / "trainer_state.json"))
        draw_curves(history, modalities, folder, f"{recipe.data.dataset}, {recipe.name}, seed {recipe.training.seed}")
    result = {
        "validation": without_prefix(trainer.evaluate(dataset["validation"], metric_key_prefix="validation")),
        "test": without_prefix(trainer.evaluate(dataset["test"], metric_key_prefix="test")),
        "final_ratios": final_ratios(history, modalities),
        "modulations": {name: summary for name, summary in trainer.modulation.summary().items() if summary},
        "train_seconds": round(train_seconds, 2),
        "resumed_from": checkpoint,
        "seed": recipe.training.seed,
        "fingerprint": what,
        "environment": environment(recipe.training.world_size),
    }
    incomplete = {"left_out": data_report(dataset), "failures": processor.failures if processor is not None else {}}
    result.update({name: report for name, report in incomplete.items() if report})
    if trainer.is_world_process_zero():
        trainer.state.save_to_json(str(folder / "trainer_state.json"))  # with the evaluations
        unfinished = folder / f"{METRICS_NAME}.part"
        unfinished.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        unfinished.replace(folder / METRICS_NAME)  # whatever happens, the file is complete or not there
    return result


def repeatable_options(recipe: Recipe) -> dict[str, Any]:
    """The recipe's options as `config.yaml` keeps them: what differs from the defaults, and always dataset, seed and
    folder; not where this training went on from."""
    always = {"seed": recipe.training.seed, "output_dir": str(recipe.training.output_dir)}
    options = {"dataset": recipe.data.dataset, **recipe.explicit, **always}
    options.pop("resume_from_checkpoint", None)
    return options


def finished_result(recipe: Recipe) -> dict[str, Any] | None:
    """What `metrics.json` in the recipe's folder holds, if that run computed the same with the same seed."""
    path = Path(recipe.training.output_dir) / METRICS_NAME
    if not path.is_file():
        return None
    result = json.loads(path.read_text(encoding="utf-8"))
    same = (result.get("seed"), result.get("fingerprint")) == (recipe.training.seed, fingerprint(recipe))
    return result if same else None


def without_prefix(metrics: Mapping[str, float]) -> dict[str, float]:
    """Metrics without `validation_`/`test_` and without the timing entries of the Trainer."""
    stripped = {key.split("_", 1)[1]: value for key, value in metrics.items() if "_" in key}
    timing = ("runtime", "samples_per_second", "steps_per_second", "model_preparation_time")
    return {key: value for key, value in stripped.items() if key not in timing}


def final_ratios(history: list[dict[str, Any]], modalities: list[str]) -> dict[str, float]:
    """The last logged discrepancy ratio of each modality."""
    ratios = {}
    for modality in modalities:
        values = [entry[f"balance/ratio_{modality}"] for entry in history if f"balance/ratio_{modality}" in entry]
        if values:
            ratios[modality] = values[-1]
    return ratios


def draw_curves(history: list[dict[str, Any]], modalities: list[str], folder: Path, title: str) -> None:
    """`curves.png`, if matplotlib is installed."""
    try:
        from ..analysis.curves import plot_curves
    except ImportError:
        print(f"{CURVES_NAME} is not drawn: matplotlib is missing. Install it with: pip install 'hf_bml[plots]'")
        return
    plot_curves(history, modalities, folder / CURVES_NAME, title)


def environment(processes: int) -> dict[str, Any]:
    """Versions and machine of this run, and how many processes shared it."""
    packages = ("hf_bml", "torch", "transformers", "datasets", "accelerate", "timm")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    return {
        "python": platform.python_version(),
        "device": device,
        "processes": processes,
        "date": time.strftime("%Y-%m-%d"),
        **{package: version(package) for package in packages},
    }
