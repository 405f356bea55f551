"""One run: data, model and trainer of a recipe, and what a finished run leaves in its folder."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from datasets import DatasetDict
from transformers import set_seed

from ..data import load_multimodal_dataset
from ..metrics import classification_metrics
from ..models import MultimodalConfig, MultimodalForClassification
from ..processing import MultimodalDataCollator, MultimodalProcessor
from ..trainer import MultimodalBalancedTrainer
from .progress import CompactProgressCallback
from .recipe import Recipe, write_recipe

METRICS_NAME = "metrics.json"
CONFIG_NAME = "config.yaml"
CURVES_NAME = "curves.png"


def build_data(recipe: Recipe) -> tuple[DatasetDict, MultimodalProcessor | None]:
    """The processed splits, and the processor of the model's modalities (None if every column is a tensor already).

    Raises:
        ValueError: unknown dataset or option, a processor for a modality that the model lacks, a missing column.
    """
    modalities = list(recipe.model.modalities or {})
    key = json.dumps([recipe.data.dataset, recipe.data.dataset_options, recipe.data.processors, modalities])
    if key not in _last_data:
        _last_data.clear()
        _last_data[key] = _build_data(recipe, modalities)
    return _last_data[key]


_last_data: dict[str, tuple[DatasetDict, MultimodalProcessor | None]] = {}  # several runs of a command share it


def _build_data(recipe: Recipe, modalities: list[str]) -> tuple[DatasetDict, MultimodalProcessor | None]:
    dataset = load_multimodal_dataset(recipe.data.dataset, **(recipe.data.dataset_options or {}))
    configs = {name: config for name, config in (recipe.data.processors or {}).items() if name in modalities}
    unused = [name for name in recipe.data.processors or {} if name not in dataset["train"].column_names]
    if unused:
        raise ValueError(
            f"processors name {unused}, but the dataset {recipe.data.dataset!r} has the columns "
            f"{dataset['train'].column_names}."
        )
    if not configs:
        return dataset.with_format("torch"), None
    processor = MultimodalProcessor(configs)
    return processor.apply(dataset, num_proc=recipe.data.dataset_num_proc), processor


def build_model(recipe: Recipe, class_names: list[str] | None, num_labels: int) -> MultimodalForClassification:
    """The recipe's model, initialised by the recipe's seed."""
    if recipe.model.model_name_or_path is not None:
        return MultimodalForClassification.from_pretrained(recipe.model.model_name_or_path)
    names = class_names or [f"LABEL_{index}" for index in range(num_labels)]
    set_seed(recipe.training.seed)
    config = MultimodalConfig(
        modalities=recipe.model.modalities,
        fusion=recipe.model.fusion,
        head_hidden_sizes=recipe.model.head_hidden_sizes,
        head_dropout=recipe.model.head_dropout,
        bias_split=recipe.model.bias_split,
        id2label=dict(enumerate(names)),
        label2id={name: index for index, name in enumerate(names)},
    )
    return MultimodalForClassification(config)


def build_trainer(recipe: Recipe, dataset: DatasetDict, model: MultimodalForClassification):
    """A trainer for the recipe's model on the processed splits."""
    modalities = list(model.encoders)
    trainer = MultimodalBalancedTrainer(
        model,
        recipe.training,
        data_collator=MultimodalDataCollator(modalities, num_labels=model.config.num_labels),
        train_dataset=dataset["train"],
        eval_dataset=dataset["validation"],
        compute_metrics=classification_metrics,
    )
    CompactProgressCallback.replace_in(trainer, modalities)
    return trainer


def label_names(dataset: DatasetDict) -> tuple[list[str] | None, int]:
    """Class names (None for plain integer labels) and the number of classes, from the training split."""
    feature = dataset["train"].features["labels"]
    names = getattr(feature, "names", None)
    if names is not None:
        return list(names), len(names)
    labels = dataset["train"].with_format(None).select_columns("labels")["labels"][:]
    return None, int(max(labels)) + 1


def run(recipe: Recipe) -> dict[str, Any]:
    """Trains, tests and saves one recipe; everything lands in `recipe.training.output_dir`.

    Returns:
        what `metrics.json` holds: `validation` and `test` metrics, `final_ratios`, `train_seconds`, `environment`.
    """
    dataset, processor = build_data(recipe)
    model = build_model(recipe, *label_names(dataset))
    trainer = build_trainer(recipe, dataset, model)
    started = time.perf_counter()
    trainer.train(resume_from_checkpoint=resume_point(recipe))
    train_seconds = time.perf_counter() - started
    history = list(trainer.state.log_history)
    modalities = list(model.encoders)
    result = {
        "validation": without_prefix(trainer.evaluate(dataset["validation"], metric_key_prefix="validation")),
        "test": without_prefix(trainer.evaluate(dataset["test"], metric_key_prefix="test")),
        "final_ratios": final_ratios(history, modalities),
        "train_seconds": round(train_seconds, 2),
        "seed": recipe.training.seed,
        "environment": environment(),
    }
    trainer.save_model()
    if trainer.is_world_process_zero():
        folder = Path(recipe.training.output_dir)
        if processor is not None:
            processor.save_pretrained(folder)
        write_recipe({**recipe.explicit, "output_dir": str(recipe.training.output_dir)}, folder / CONFIG_NAME)
        trainer.state.save_to_json(str(folder / "trainer_state.json"))
        draw_curves(history, modalities, folder, f"{recipe.data.dataset}, {recipe.name}, seed {recipe.training.seed}")
        (folder / METRICS_NAME).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return result


def resume_point(recipe: Recipe) -> str | bool | None:
    """`resume_from_checkpoint` as Trainer.train wants it: a path, True for the newest checkpoint, or None."""
    value = recipe.training.resume_from_checkpoint
    return True if str(value).lower() in ("true", "last", "latest") else value


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


def environment() -> dict[str, str]:
    """Versions and machine of this run."""
    packages = ("hf_bml", "torch", "transformers", "datasets", "accelerate", "timm")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    return {
        "python": platform.python_version(),
        "device": device,
        "date": time.strftime("%Y-%m-%d"),
        **{package: version(package) for package in packages},
    }
