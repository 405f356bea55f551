"""A saved model on a split: a run's own, that of one of its checkpoints, or one from the Hub; on any data."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from datasets import IterableDatasetDict
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..data.loading import FROM_COLUMNS
from ..data.sources import FORMATS, read_source
from ..data.splits import SPLITS
from ..ground.task import REGRESSION
from .checks import check_recipe
from .dotted_options import split_dotted
from .experiment import CONFIG_NAME, label_names, without_prefix
from .finished_run import FinishedRun, check_split, evaluate, run_recipe
from .json_file import read_json, write_json
from .recipe import Recipe
from .recipe_blocks import DataArguments
from .recipe_yaml import write_recipe
from .resumption import METRICS_NAME
from .run_data import build_data
from .run_model import checkpoint_config, recipe_task
from .tasks import task_name

SOURCE = ("path", "name", "data_dir", "data_files", "revision")  # options of from_columns that say where the rows are
OTHERS = ("use_cpu", "per_device_eval_batch_size", "dataloader_num_workers", "bf16_full_eval", "fp16_full_eval")


@dataclass
class Evaluation:
    """What was found.

    Attributes:
        metrics: of the split, without its prefix.
        own: the same of the run itself, where it is another evaluation and the run knows; else empty.
        file: where it is written.
    """

    metrics: dict[str, float]
    own: dict[str, float]
    file: Path


def evaluate_model(model: str, split: str, arguments: Sequence[str] = ()) -> Evaluation:
    """Evaluates a model and writes a file of its own.

    Args:
        model: a run's folder, one of its checkpoints, any other folder of a model, or a Hub id.
        split: train, validation or test. Of other data for `from_columns` whose source has a single split, all of it.
        arguments: options of a recipe's data block, and OTHERS, in place of the run's.

    Raises:
        FileNotFoundError: no such folder, or none of the data's files.
        ValueError: unknown split or option, a model that cannot be used, or data of other classes.
    """
    check_split(split)
    check_arguments(arguments)
    folder, run_dir = Path(model), run_folder(Path(model))
    if run_dir == folder and not arguments:
        return Evaluation(evaluate(run_dir, split), {}, run_dir / f"metrics_{split}.json")
    weights = folder if folder.is_dir() else model
    output = run_dir or (folder if folder.is_dir() else Path("runs", model.replace("/", "--")))
    parts = [split, *([folder.name] if run_dir not in (None, folder) else [])]
    if run_dir is None:
        recipe, own_data = recipe_of_model(weights, output, arguments), None
    else:
        config = str(run_dir / CONFIG_NAME)
        recipe, own_data = run_recipe(config, weights, output, arguments), run_recipe(config, weights, output).data
    if recipe.data != own_data:
        same = own_data is None or own_data.dataset == recipe.data.dataset
        recipe = replace(recipe, data=other_data(recipe, given_options(recipe.data, arguments), same))
        parts.append(data_name(recipe.data))
    check_recipe(recipe)
    run = FinishedRun(output, recipe, *build_data(recipe, augment=False))
    check_classes(recipe, label_names(run.dataset)[0])
    trainer = run.trainer(weights)
    metrics = without_prefix(trainer.evaluate(run.dataset[split], metric_key_prefix=split))
    is_own = parts == [split]  # with other options of the evaluation, such as its batch size
    found = Evaluation(
        metrics, {} if is_own else own_metrics(run_dir, split), output / f"metrics_{'_'.join(parts)}.json"
    )
    if trainer.is_world_process_zero():
        output.mkdir(parents=True, exist_ok=True)
        data = {"dataset": recipe.data.dataset, "dataset_options": recipe.data.dataset_options}
        rows = {} if isinstance(run.dataset, IterableDatasetDict) else {"rows": len(run.dataset[split])}
        about = {"model": str(weights), "split": split, **rows, **data}
        write_json(metrics if is_own else {**about, "metrics": metrics}, found.file)
    return found


def check_arguments(arguments: Sequence[str]) -> None:
    """Raises ValueError for an option that says nothing about data or evaluation."""
    known = {*(f.name for f in fields(DataArguments)), *OTHERS}
    for argument in arguments:
        name = argument.partition("=")[0].partition(".")[0].removeprefix("--").replace("-", "_")
        if argument.startswith("--") and name not in known:
            raise ValueError(f"expected options of the data, or {', '.join(OTHERS)}, found {argument}.")


def run_folder(folder: Path) -> Path | None:
    """The run that a folder is, or is a checkpoint of; None for other models."""
    is_checkpoint = folder.name.startswith(f"{PREFIX_CHECKPOINT_DIR}-")
    candidates = [folder, *([folder.parent] if is_checkpoint else [])]
    return next((each for each in candidates if (each / CONFIG_NAME).is_file()), None)


def recipe_of_model(model: str | Path, output: Path, arguments: Sequence[str]) -> Recipe:
    """A recipe that says what a model is, on the data of a command line; without `dataset` that is `from_columns`,
    with a column of each modality's name.

    Raises:
        ValueError: not a model of this package, or no data is given.
    """
    config = checkpoint_config(str(model))
    if not any(argument.startswith("--dataset") for argument in arguments):
        raise ValueError(
            f"{model} does not say what it was trained on; expected data such as --dataset_options.path clips.parquet "
            "--dataset_options.label mood, or --dataset NAME."
        )
    options = {"task": task_name(config)}
    if not any(argument.partition("=")[0] == "--dataset" for argument in arguments):
        columns = {modality: modality for modality in config.modalities}
        options |= {"dataset": FROM_COLUMNS, "dataset_options": {"modalities": columns}}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{Path(model).name}.yaml")
        write_recipe(options, path)
        return run_recipe(str(path), model, output, arguments)


def given_options(data: DataArguments, arguments: Sequence[str]) -> set[str]:
    """The keys of `dataset_options` that a command line gives."""
    if any(argument.partition("=")[0].replace("-", "_") == "__dataset_options" for argument in arguments):
        return set(data.dataset_options)  # as JSON, which replaces all
    return {nested[1] for nested, _ in split_dotted(arguments)[1] if nested[0] == "dataset_options"}


def other_data(recipe: Recipe, given: Collection[str], same_dataset: bool) -> DataArguments:
    """What a recipe says of other data than the run's own: neither cut into folds nor thinned, all rows of
    `from_columns` where the source has one split, and classes in the model's order, or numbers.

    Args:
        recipe: of the run, with the options of a command line.
        given: keys of `dataset_options` that are the command line's.
        same_dataset: whether the other keys are options of the same function.
    """
    data = replace(recipe.data, folds=None, fold=None, train_per_class=None)
    options = {key: value for key, value in (data.dataset_options or {}).items() if same_dataset or key in given}
    if data.dataset == FROM_COLUMNS and set(given) & set(SOURCE):
        if "path" in given:
            options = {key: value for key, value in options.items() if key not in SOURCE or key in given}
        elif "data_files" in given and (is_file(options.get("path")) or is_file(options["data_files"])):
            options.pop("path", None)
        if recipe_task(recipe).problem_type == REGRESSION:
            options.setdefault("numbers", True)  # a column of whole numbers too
        elif "classes" not in given:
            options["classes"] = class_names_of(str(recipe.model.model_name_or_path))
        if "splits" not in given and not options.get("streaming"):
            source = {key: options[key] for key in SOURCE if key in options}
            splits = list(read_source(**{"path": "parquet", **source}))
            options.pop("splits", None)
            if len(splits) == 1:  # nothing is trained, so nothing need be held out
                options.pop("group", None)
                options["splits"] = dict.fromkeys(SPLITS, splits[0])
    return replace(data, dataset_options=options)


def is_file(value: Any) -> bool:
    """Whether an option names a local table."""
    return isinstance(value, str) and Path(value).suffix in FORMATS and Path(value).is_file()


def class_names_of(model: str) -> list[str]:
    """A model's classes in order; where they have no names, their numbers."""
    names = checkpoint_config(model).id2label
    return [str(index) if names[index] == f"LABEL_{index}" else names[index] for index in range(len(names))]


def check_classes(recipe: Recipe, names: Sequence[str] | None) -> None:
    """Raises ValueError unless the data's classes are the model's, in the same order."""
    expected = class_names_of(str(recipe.model.model_name_or_path))
    if names is not None and list(names) != expected:
        raise ValueError(
            f"expected the model's classes {expected}, found {list(names)} in the data. Pass "
            "--dataset_options.classes, or number the data's labels as the model does."
        )


def data_name(data: DataArguments) -> str:
    """What a file about an evaluation on this data is called: short, and another one for other data."""
    options = data.dataset_options or {}
    named = next(
        (options[key] for key in ("data_files", "path", "data_dir") if isinstance(options.get(key), str)), None
    )
    digest = hashlib.sha256(json.dumps(asdict(data), sort_keys=True, default=str).encode()).hexdigest()
    return f"{Path(named).stem if named else data.dataset.replace(':', '.')}-{digest[:8]}"


def own_metrics(run_dir: Path | None, split: str) -> Mapping[str, float]:
    """What a run found on its own split, from `metrics.json` or the command's earlier evaluation; empty if neither."""
    if run_dir is None:
        return {}
    if (run_dir / METRICS_NAME).is_file() and split in (found := read_json(run_dir / METRICS_NAME)):
        return found[split]
    file = run_dir / f"metrics_{split}.json"
    return read_json(file) if file.is_file() else {}
