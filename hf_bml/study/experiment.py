"""One run: data, model and trainer of a recipe, and what a finished run leaves in its folder."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from datasets import ClassLabel, DatasetDict, IterableDatasetDict, LargeList, List, Value
from transformers import TrainerCallback

from ..data import data_report
from ..data.data_report import data_line
from ..ground.disk import check_writable, disk_errors_named
from ..ground.task import REGRESSION
from ..hub.card import CURVES_NAME
from ..hub.environment import environment
from ..hub.facts import last_ratios
from ..hub.push import with_command
from ..hub.run_folder import push_run
from ..training.checkpoint import set_checkpoints_aside
from ..training.data_checks import check_dataset
from .assembly import build_trainer, column_types, type_names
from .epoch_clock import EpochClock
from .fingerprint import fingerprint
from .json_file import read_json, write_json
from .metric_checks import check_best_metric
from .parts import load_parts
from .recipe import Recipe
from .recipe_yaml import write_recipe
from .resumption import METRICS_NAME, TRAINING_NAME, goes_on_from_another, resume_point, training_identity
from .run_data import build_data, protocol_facts
from .run_model import build_model, recipe_task
from .tasks import check_label_type

CONFIG_NAME = "config.yaml"
AFTER_NAME = "after_run.json"  # what `run_plan` measures beside the run's own metrics
# What a finished run, and the commands that look at it, leave in its folder beside CONFIG_NAME:
RESULTS = (
    *("*.safetensors", "*.safetensors.index.json", "config.json", "processor_config.json", "trainer_state.json"),
    *("metrics*.json", TRAINING_NAME, "analysis_*.json", "probe.json", "missing.json", "robustness_*.json"),
    *(AFTER_NAME, CURVES_NAME),
)


def label_names(dataset: DatasetDict) -> tuple[list[str] | None, int]:
    """Class names (None for plain numbers) and how many there are, from the training split; of numbers to predict, or
    of a number for each class, how many a sample has.

    Raises:
        ValueError: a stream of plain integers, whose number of classes is not known beforehand.
    """
    feature = column_types(dataset)["labels"]
    if isinstance(feature, Value) and "float" in feature.dtype:
        return None, 1
    if isinstance(feature, List) and feature.length > 0 and feature.feature in (Value("float32"), Value("float64")):
        return None, feature.length
    while isinstance(feature, (List, LargeList)):  # a label per segment
        feature = feature.feature
    if isinstance(feature, ClassLabel):
        return list(feature.names), feature.num_classes
    if isinstance(dataset, IterableDatasetDict):
        raise ValueError(
            f"expected the streamed column `labels` to be a ClassLabel, as its rows are not counted beforehand; found "
            f"{feature}. Cast it to ClassLabel(names=[...])."
        )
    labels = dataset["train"].with_format(None).select_columns("labels")["labels"][:]
    if "float" in feature.dtype:
        return None, np.size(labels[0])
    return None, int(np.max(labels)) + 1


def run(recipe: Recipe, *callbacks: TrainerCallback) -> dict[str, Any]:
    """Trains, tests and saves one recipe; everything lands in `recipe.training.output_dir`.

    The model is saved before it is evaluated, so that a failure there loses nothing. With `push_to_hub` the run is
    pushed once more when its results are known; if that fails there is a warning.

    Args:
        recipe: has passed `check_recipe`.
        callbacks: further ones for the trainer.

    Returns:
        what `metrics.json` holds: `validation` and `test` metrics, `final_ratios`, the summaries of `modulations` that
        have one; `left_out` (samples that the data set lacks, by split and reason) and `failures` (files that could
        not be used) if there are any; `protocol` (see `with_protocol`), and `parts` (the folders of the modalities'
        own runs) with the number of `trainings`, where there are such; `train_seconds`, those of the parts included,
        and the checkpoint that the training resumed from (the time is of what was left), `epoch_seconds` of every
        whole epoch (see `EpochClock`), `seed`, `fingerprint` (None if the checkpoint was of another training),
        `environment`.
    """
    identity = training_identity(recipe)
    folder = Path(recipe.training.output_dir)
    if recipe.training.process_index == 0:
        check_writable(folder)
    dataset, processor = build_data(recipe)
    check_label_type(recipe.model.task, column_types(dataset)["labels"])
    model = build_model(recipe, *label_names(dataset))
    load_parts(model, recipe)
    modalities = list(model.encoders)
    check_best_metric(recipe, modalities, model.config.num_labels, type_names(recipe_task(recipe), dataset))
    for split in ("train", "validation", "test"):
        check_dataset(dataset[split], split, modalities, model.config.num_labels, model.task)
    if recipe.training.process_index == 0:
        classes = None if model.config.problem_type == REGRESSION else model.config.num_labels
        print(data_line(recipe.data.dataset, dataset, classes), flush=True)
    trainer = build_trainer(recipe, dataset, model, processor)
    clock = EpochClock()
    if not isinstance(dataset, IterableDatasetDict):  # a stream has no epochs
        trainer.add_callback(clock)
    for callback in callbacks:
        trainer.add_callback(callback)
    trainer.run_options = repeatable_options(recipe)
    checkpoint = resume_point(recipe)
    if checkpoint is not None and goes_on_from_another(recipe, checkpoint):
        identity["fingerprint"] = None  # the result is that of no recipe
    if trainer.is_world_process_zero():
        if checkpoint is None and (folder / METRICS_NAME).is_file():
            results = [path for pattern in RESULTS for path in folder.glob(pattern)]
            set_checkpoints_aside(folder, results, copied=list(folder.glob(CONFIG_NAME)))  # it may be this recipe
        write_json(identity, folder / TRAINING_NAME)
    started = time.perf_counter()
    is_trained = recipe.model.from_unimodal != "models"
    if is_trained:
        trainer.train(resume_from_checkpoint=checkpoint or False)
    train_seconds = time.perf_counter() - started
    folders = {modality: Path(part.training.output_dir) for modality, part in recipe.parts.items()}
    parts = [read_json(part / METRICS_NAME) for part in folders.values()]
    history = list(trainer.state.log_history)
    trainer.save_model(_internal_call=True)  # without a push: the training's end was one
    if trainer.is_world_process_zero():
        title = f"{recipe.data.dataset}, {recipe.name}, seed {recipe.training.seed}"
        with disk_errors_named(folder):
            if processor is not None:
                processor.save_pretrained(folder)
            write_recipe(trainer.run_options, folder / CONFIG_NAME)
            trainer.state.save_to_json(str(folder / "trainer_state.json"))
            if is_trained:
                draw_curves(history, modalities, folder, title)
    result = {
        "validation": without_prefix(trainer.evaluate(dataset["validation"], metric_key_prefix="validation")),
        "test": without_prefix(trainer.evaluate(dataset["test"], metric_key_prefix="test")),
        "final_ratios": last_ratios(history, modalities),
        "modulations": {name: summary for name, summary in trainer.modulation.summary().items() if summary},
        "train_seconds": round(train_seconds + sum(part["train_seconds"] for part in parts), 2),
        "epoch_seconds": [round(seconds, 4) for seconds in clock.seconds],
        "resumed_from": next(filter(None, [checkpoint, *[part["resumed_from"] for part in parts]]), None),
        **identity,
        "environment": environment(recipe.training.world_size),
    }
    if facts := protocol_facts(recipe):
        result["protocol"] = facts
    if parts:
        result["trainings"] = len(parts) + is_trained
        result["parts"] = {modality: str(part) for modality, part in folders.items()}
    incomplete = {"left_out": data_report(dataset), "failures": processor.failures if processor is not None else {}}
    result.update({name: report for name, report in incomplete.items() if report})
    if trainer.is_world_process_zero():
        with disk_errors_named(folder):
            trainer.state.save_to_json(str(folder / "trainer_state.json"))  # with the evaluations
        write_json(result, folder / METRICS_NAME)
        if recipe.training.push_to_hub:
            push_results(recipe, trainer.hub_model_id)
    return result


def push_results(recipe: Recipe, repo_id: str) -> None:
    """Pushes the finished run as `hf-bml push` does; any failure is a warning."""
    training = recipe.training
    options = {"private": training.hub_private_repo, "revision": training.hub_revision}
    try:
        push_run(training.output_dir, repo_id, token=training.hub_token, with_code=training.push_code, **options)
    except Exception as error:  # such as a full disk: the results of the training matter more
        failure = with_command(error, training.output_dir, repo_id, code=training.push_code, **options)
        warnings.warn(f"Not pushed to the Hub: {failure}", stacklevel=2)


def repeatable_options(recipe: Recipe) -> dict[str, Any]:
    """The recipe's options as `config.yaml` keeps them: what differs from the defaults, and always dataset, seed and
    folder; not what this training resumed from, and no token."""
    always = {"seed": recipe.training.seed, "output_dir": str(recipe.training.output_dir)}
    options = {"dataset": recipe.data.dataset, **recipe.explicit, **always}
    return {name: value for name, value in options.items() if name not in ("resume_from_checkpoint", "hub_token")}


def finished_result(recipe: Recipe) -> dict[str, Any] | None:
    """What `metrics.json` in the recipe's folder holds, if that run computed the same with the same seed."""
    path = Path(recipe.training.output_dir) / METRICS_NAME
    if not path.is_file():
        return None
    result = read_json(path)
    same = (result.get("seed"), result.get("fingerprint")) == (recipe.training.seed, fingerprint(recipe))
    return result if same else None


def without_prefix(metrics: Mapping[str, float]) -> dict[str, float]:
    """Metrics without `validation_`/`test_` and without the timing entries of the Trainer."""
    stripped = {key.split("_", 1)[1]: value for key, value in metrics.items() if "_" in key}
    timing = ("runtime", "samples_per_second", "steps_per_second", "model_preparation_time")
    return {key: value for key, value in stripped.items() if key not in timing}


def draw_curves(history: list[dict[str, Any]], modalities: list[str], folder: Path, title: str) -> None:
    """`curves.png`, if matplotlib is installed and anything was logged."""
    try:
        from ..figures.curves import plot_curves
    except ImportError:
        print(f"{CURVES_NAME} is not drawn: matplotlib is missing. Install it with: pip install 'hf_bml[plots]'")
        return
    if not plot_curves(history, modalities, folder / CURVES_NAME, title):
        print(f"{CURVES_NAME} is not drawn: nothing was logged. Set logging_strategy: epoch, or steps.")
