"""What a model card tells about a run, read from the run's folder; nothing is made up.

What is not known, such as the test scores of a training that is still running, is left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import transformers
import yaml
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..modulation import build_modulations
from .hidden_paths import hide_paths, without_paths

SPLITS = {"eval": "validation", "validation": "validation", "test": "test"}  # of the prefixes of logged metrics
TIMING = ("runtime", "samples_per_second", "steps_per_second", "model_preparation_time")


@dataclass
class CardFacts:
    """One run, as its card shows it.

    Attributes:
        name: of the model.
        model_class: class name of the model.
        config: the model's config as `config.json` holds it, without paths; empty if the model has none of ours.
        modalities: names in the model's order.
        processors: options per modality of the `MultimodalProcessor` beside the model; empty without one.
        modulations: all options per modulation.
        settings: options of the training, without the machine's paths.
        results: metrics by split of these very weights, as fractions.
        robustness: what `robustness_test.json` holds; empty without it.
        ratios: discrepancy ratio per modality as last logged.
        history: `TrainerState.log_history`.
        step: optimizer step of these weights; None if not known.
        max_steps: of the whole training; None if not known.
        is_finished: whether the training has ended.
        wrapped_class: of a model that `balance` wrapped, its own class with its module.
        adapter_base: folder or Hub id of the model that a PEFT adapter was trained for, empty if it has none; None if
            the weights are not an adapter.
        is_pretrained: whether that class has `from_pretrained`.
        balance: the arguments of `balance`; `logits` None for a function. Empty if they are not known.
        seed, train_seconds: of the run; None if not known.
        environment: versions, device, date.
    """

    name: str
    model_class: str = "MultimodalForClassification"
    config: dict[str, Any] = field(default_factory=dict)
    modalities: list[str] = field(default_factory=list)
    processors: dict[str, dict[str, Any]] = field(default_factory=dict)
    modulations: dict[str, dict[str, Any]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    results: dict[str, dict[str, float]] = field(default_factory=dict)
    robustness: dict[str, Any] = field(default_factory=dict)
    ratios: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    step: int | None = None
    max_steps: int | None = None
    is_finished: bool = True
    wrapped_class: str | None = None
    adapter_base: str | None = None
    is_pretrained: bool = False
    balance: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    train_seconds: float | None = None
    environment: dict[str, Any] = field(default_factory=dict)


def facts_of_run(folder: str | Path, name: str | None = None) -> CardFacts:
    """Facts of a folder that `hf-bml train` or a trainer has written: a run's, or one of its checkpoints.

    Args:
        folder: holds `config.json`, and, if present, `config.yaml` (for a checkpoint, in the folder above),
            `processor_config.json`, `trainer_state.json` and `metrics.json`.
        name: of the model; default the folder's.

    Raises:
        FileNotFoundError: there is no `config.json`.
    """
    folder = Path(folder).resolve()
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} holds no config.json; expected the folder of a trained model.")
    config, state, metrics = (read_json(folder / f"{part}.json") for part in ("config", "trainer_state", "metrics"))
    is_checkpoint = folder.name.startswith(f"{PREFIX_CHECKPOINT_DIR}-")
    options = read_yaml((folder.parent if is_checkpoint else folder) / "config.yaml")
    history = state.get("log_history", [])
    step = state.get("global_step")
    if options.get("load_best_model_at_end") and not is_checkpoint:
        step = state.get("best_global_step") or step
    modalities = config.get("modality_order") or list(config.get("modalities") or metrics.get("final_ratios", {}))
    results = {split: numbers(metrics[split]) for split in ("validation", "test") if split in metrics}
    model_class = (config.get("architectures") or [CardFacts.model_class])[0]
    # Of transformers' own classes, which are looked up by name, none is trained as it is.
    is_wrapped = "modalities" not in config and hasattr(transformers, model_class)
    return CardFacts(
        name=name or folder.name,
        model_class=model_class,
        wrapped_class=f"transformers.{model_class}" if is_wrapped else None,
        is_pretrained=is_wrapped,
        config=hide_paths(config),
        modalities=modalities,
        processors=hide_paths(read_json(folder / "processor_config.json").get("modalities", {})),
        modulations=with_all_options(options.get("modulations")),
        settings=without_paths(options),
        results=results or results_at(history, step),
        robustness=read_json(folder / "robustness_test.json"),
        ratios=metrics.get("final_ratios") or last_ratios(history, modalities),
        history=history,
        step=step,
        max_steps=state.get("max_steps"),
        is_finished=bool(metrics) or is_finished(history),
        seed=metrics.get("seed", options.get("seed")),
        train_seconds=None if metrics.get("resumed_from") else metrics.get("train_seconds"),
        environment=metrics.get("environment", {}),
    )


def read_json(path: Path) -> dict[str, Any]:
    """The file's mapping; empty without the file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def read_yaml(path: Path) -> dict[str, Any]:
    """The file's mapping; empty without the file."""
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}


def with_all_options(modulations: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """The modulations of a recipe with their defaults filled in."""
    return {modulation.name: asdict(modulation.config) for modulation in build_modulations(modulations)}


def is_finished(history: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a training has ended, which it logs."""
    return any("train_runtime" in entry for entry in history)


def results_at(history: Sequence[Mapping[str, Any]], step: int | None) -> dict[str, dict[str, float]]:
    """Logged metrics by split of the weights of one step.

    Args:
        history: `TrainerState.log_history`.
        step: of the weights. What was logged after the training's end is of the weights that it ended with, and
            those are taken to be the ones asked for.

    Example:
        >>> results_at([{"eval_accuracy": 0.5, "step": 10}, {"eval_accuracy": 0.7, "step": 20}], step=20)
        {'validation': {'accuracy': 0.7}}
    """
    results: dict[str, dict[str, float]] = {}
    ended = False
    for entry in history:
        ended |= "train_runtime" in entry
        if entry.get("step") != step and not ended:
            continue
        for key, value in numbers(entry).items():
            prefix, _, metric = key.partition("_")
            if prefix in SPLITS and metric not in TIMING:
                results.setdefault(SPLITS[prefix], {})[metric] = value
    return results


def numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The entries that are plain numbers."""
    return {name: value for name, value in metrics.items() if isinstance(value, (int, float))}


def last_ratios(history: Sequence[Mapping[str, Any]], modalities: Sequence[str]) -> dict[str, float]:
    """The last logged discrepancy ratio of each modality."""
    ratios = {}
    for modality in modalities:
        key = f"balance/ratio_{modality}"
        values = [entry[key] for entry in history if key in entry]
        if values:
            ratios[modality] = values[-1]
    return ratios
