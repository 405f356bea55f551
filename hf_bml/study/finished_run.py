"""A finished run as the commands that look at it need it: recipe, data, saved models, and what these predict."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..analysis.predictions import Predictions, as_predictions
from ..data.splits import SPLITS
from ..ground.suggestion import did_you_mean
from ..processing import MultimodalProcessor
from ..processing.absent_modalities import WithoutModalities
from ..training.checkpoint import check_file
from ..training.trainer import MultimodalBalancedTrainer
from .assembly import build_trainer
from .checks import check_recipe
from .experiment import CONFIG_NAME, without_prefix
from .json_file import write_json
from .parser import train_parser
from .recipe import Recipe, parse_recipe
from .run_data import build_data
from .run_model import build_model
from .tasks import check_tells_classes


@dataclass
class SavedModel:
    """A model that a run has saved.

    Attributes:
        folder: where its weights are.
        step: the optimizer steps that made it.
        epoch: the same in epochs.
        final: whether it is the run's result: its last model, or the best one on validation if the recipe says so.
    """

    folder: Path
    step: int
    epoch: float
    final: bool = False


@dataclass
class FinishedRun:
    """A folder that `hf-bml train` wrote.

    Attributes:
        folder: the run's.
        recipe: the run's, starting from its saved model, and writing nowhere but there.
        dataset: the processed splits, none of them augmented.
        processor: of the model's modalities; None if every column is a tensor already.
    """

    folder: Path
    recipe: Recipe
    dataset: DatasetDict
    processor: MultimodalProcessor | None

    def trainer(self, folder: Path | None = None) -> MultimodalBalancedTrainer:
        """A trainer that holds a saved model, by default the run's final one.

        Raises:
            ValueError: the model cannot be loaded.
        """
        model = replace(self.recipe.model, model_name_or_path=str(folder or self.folder))
        recipe = replace(self.recipe, model=model)
        recipe.training.dataloader_drop_last = True  # a last training batch of one sample is nothing to refuse here
        trainer = build_trainer(recipe, self.dataset, build_model(recipe, None, 0), self.processor)
        trainer.args.dataloader_drop_last = False
        return trainer

    def saved_models(self) -> list[SavedModel]:
        """The checkpoints of the run and its final model, by step; a checkpoint of that model's step stands for it.

        Checkpoints without whole weights, such as those of a killed process, are left out.

        Raises:
            FileNotFoundError: the run has no final model.
        """
        state = read_state(self.folder)
        if state is None or not has_weights(self.folder):
            raise FileNotFoundError(
                f"{self.folder} holds no model.safetensors and {TRAINER_STATE_NAME}; expected a finished run."
            )
        models = []
        for folder in self.folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
            own = read_state(folder) if has_weights(folder) else None
            if own is not None and re.fullmatch(rf"{PREFIX_CHECKPOINT_DIR}-\d+", folder.name):
                models.append(SavedModel(folder, own["global_step"], own["epoch"]))
        final = self._final_model(state)
        models = [model for model in models if model.step != final.step] + [final]
        return sorted(models, key=lambda model: model.step)

    def _final_model(self, state: dict[str, Any]) -> SavedModel:
        """The run's result, with the step that it comes from."""
        best = state.get("best_global_step") if self.recipe.training.load_best_model_at_end else None
        if best is None:
            return SavedModel(self.folder, state["global_step"], state["epoch"], final=True)
        epoch = next(entry["epoch"] for entry in state["log_history"] if entry["step"] == best)
        return SavedModel(self.folder, best, epoch, final=True)


def check_split(split: str) -> None:
    """Raises ValueError, naming the closest one, unless it is a split's name."""
    if split not in SPLITS:
        raise ValueError(f"--split must be one of {', '.join(SPLITS)}, found {split!r}.{did_you_mean(split, SPLITS)}")


def check_modality(option: str, name: str, modalities: Sequence[str]) -> None:
    """Raises ValueError, naming the closest one, unless it is a modality of the model."""
    if name not in modalities:
        hint = did_you_mean(name, modalities)
        raise ValueError(f"{option}: unknown modality {name!r}.{hint} The model has {', '.join(modalities)}.")


def run_config(run_dir: Path) -> str:
    """The path of a run's recipe.

    Raises:
        FileNotFoundError: not a run's folder.
    """
    path = run_dir / CONFIG_NAME
    if not path.is_file():
        raise FileNotFoundError(f"{run_dir} holds no {CONFIG_NAME}; expected a folder that hf-bml train wrote.")
    return str(path)


def load_run(run_dir: str | Path) -> FinishedRun:
    """Reads a run's recipe and prepares its data.

    Raises:
        FileNotFoundError: not a run's folder.
        ValueError: a model, data or options that cannot be used.
    """
    run_dir = Path(run_dir)
    recipe = run_recipe(run_config(run_dir), run_dir, run_dir)
    check_recipe(recipe)
    return FinishedRun(run_dir, recipe, *build_data(recipe, augment=False))


def run_recipe(config: str, model: str | Path, output_dir: Path, arguments: Sequence[str] = ()) -> Recipe:
    """The recipe of a finished run, to look at its model: nothing is trained, reported or pushed, nothing lands where
    the training's would, and every sample counts.

    Args:
        config: path of the YAML.
        model: its folder or Hub id.
        output_dir: the recipe's.
        arguments: a command line's options, which win.

    Raises:
        ValueError, FileNotFoundError: see `parse_recipe`.
    """
    here = [f"--model_name_or_path={model}", f"--output_dir={output_dir}"]
    plain = ["resume_from_checkpoint=false", "report_to=none", "push_to_hub=false", "dataloader_drop_last=false"]
    return parse_recipe(train_parser(), config, [config, *arguments, *here, *[f"--{option}" for option in plain]])


def evaluate(run_dir: str | Path, split: str) -> dict[str, float]:
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
        write_json(metrics, run.folder / f"metrics_{split}.json")
    return metrics


def read_state(folder: Path) -> dict[str, Any] | None:
    """A folder's `trainer_state.json`; None if it is missing or cut off."""
    path = folder / TRAINER_STATE_NAME
    return None if check_file(path) else json.loads(path.read_text(encoding="utf-8"))


def has_weights(folder: Path) -> bool:
    """Whether a folder holds a model's config and its weights, none of them cut off."""
    files = list(folder.glob("*.safetensors"))
    return (folder / "config.json").is_file() and bool(files) and not any(check_file(file) for file in files)


def predict(
    trainer: MultimodalBalancedTrainer,
    dataset: Dataset,
    with_features: bool = False,
    absent: Sequence[str] | None = None,
    absence: str = "modality_mask",
) -> Predictions:
    """What the trainer's model predicts on a split, in eval mode; every process gets all of it.

    Args:
        trainer: its model may come from `FinishedRun.trainer`.
        dataset: a processed split.
        with_features: whether to keep the features as well.
        absent: modalities that every sample lacks, in the manner of `absence`, see `WithoutModalities`.
        absence: `modality_mask` or `zero_input`.

    Raises:
        ValueError: no label, NaN in logits, or outputs that are not a classification of samples or segments.
    """
    check_tells_classes(trainer.face.task.problem_type)
    ignored = [*trainer.model.config.keys_to_ignore_at_inference, "question_type"]
    if with_features:
        ignored.remove("features")
    collator, metrics = trainer.data_collator, trainer.compute_metrics
    trainer.compute_metrics = None  # they know no features
    if absent is not None:
        trainer.data_collator = WithoutModalities(collator, trainer.modalities, absent, absence)
    try:
        output = trainer.predict(dataset, ignore_keys=ignored)
    finally:
        trainer.data_collator, trainer.compute_metrics = collator, metrics
    logits, unimodal_logits, *features, keep_mask = output.predictions
    return as_predictions(output.label_ids, logits, unimodal_logits, keep_mask, features[0] if features else None)
