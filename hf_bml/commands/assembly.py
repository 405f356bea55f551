"""The parts of a run, as its recipe describes them: modalities, processors, data, model, trainer."""

from __future__ import annotations

import json
from typing import Any

from datasets import DatasetDict, LargeList, List
from transformers import AutoConfig, set_seed

from ..data import load_multimodal_dataset
from ..metrics import classification_metrics
from ..models import MultimodalConfig, MultimodalForClassification
from ..processing import PROCESSORS, MultimodalDataCollator, MultimodalProcessor
from ..trainer import MultimodalBalancedTrainer
from .progress import CompactProgressCallback
from .recipe import CONFIG_NAMES, Recipe


def checkpoint_config(name_or_path: str) -> MultimodalConfig:
    """The config of a checkpoint.

    Raises:
        ValueError: no checkpoint there, or one of another kind of model.
    """
    try:
        config = AutoConfig.from_pretrained(name_or_path)
    except OSError as error:
        raise ValueError(f"model_name_or_path {name_or_path!r} is no checkpoint: {error}") from error
    if not isinstance(config, MultimodalConfig):
        raise ValueError(
            f"model_name_or_path {name_or_path!r}: expected a multimodal model, found {config.model_type}."
        )
    return config


def recipe_modalities(recipe: Recipe) -> list[str]:
    """The model's modalities: the checkpoint's if the recipe starts from one.

    Raises:
        ValueError: the recipe's `modalities` have other names than the checkpoint's.
    """
    given = list(recipe.model.modalities or {})
    if recipe.model.model_name_or_path is None:
        return given
    names = list(checkpoint_config(recipe.model.model_name_or_path).modalities)
    if given and set(given) != set(names):
        raise ValueError(
            f"the checkpoint {recipe.model.model_name_or_path!r} has the modalities {names}, but the recipe's "
            f"modalities are {given}. Remove the recipe's `modalities`, or use the same names."
        )
    return names


def processor_configs(recipe: Recipe) -> dict[str, Any]:
    """The recipe's processors; without any, those of the checkpoint that it starts from.

    A processor that learned from the checkpoint's training data keeps that, unless the recipe gives it other options.
    """
    given = dict(recipe.data.processors or {})
    if recipe.model.model_name_or_path is None:
        return given
    try:
        saved = MultimodalProcessor.from_pretrained(recipe.model.model_name_or_path).modalities
    except OSError:  # it holds no processor_config.json
        return given
    if not given:
        return dict(saved)
    unfitted = {name: {key: value for key, value in saved[name].items() if key != "fitted"} for name in saved}
    return {name: saved[name] if options == unfitted.get(name) else options for name, options in given.items()}


def build_data(recipe: Recipe) -> tuple[DatasetDict, MultimodalProcessor | None]:
    """The processed splits, and the processor of the model's modalities (None if every column is a tensor already).

    The main process prepares them, and the others find them in the cache.

    Raises:
        ValueError: unknown dataset or option, a processor for a column that the dataset lacks, a modality without
            column, or without processor where it needs one.
    """
    modalities = recipe_modalities(recipe)
    configs = processor_configs(recipe)
    data = recipe.data
    key = json.dumps([data.dataset, data.dataset_options, data.on_error, configs, modalities], default=str)
    if key not in _last_data:
        _last_data.clear()
        with recipe.training.main_process_first(desc="preparing the data"):
            _last_data[key] = _build_data(recipe, modalities, configs)
    return _last_data[key]


_last_data: dict[str, tuple[DatasetDict, MultimodalProcessor | None]] = {}  # several runs of a command share it


def _build_data(
    recipe: Recipe, modalities: list[str], configs: dict[str, Any]
) -> tuple[DatasetDict, MultimodalProcessor | None]:
    options = recipe.data.dataset_options or {}
    try:
        dataset = load_multimodal_dataset(recipe.data.dataset, **options)
    except TypeError as error:
        if not options:  # then it is not the recipe's fault
            raise
        raise ValueError(f"dataset {recipe.data.dataset!r} with the options {options}: {error}") from error
    columns = dataset["train"].column_names
    for what, names in (("processors name", configs), ("the model's modalities are", modalities)):
        missing = [name for name in names if name not in columns]
        if missing:
            raise ValueError(
                f"{what} {list(names)}, but the dataset {recipe.data.dataset!r} has the columns {columns}: "
                f"{missing} missing."
            )
    ranks = {name: numeric_rank(dataset["train"].features[name]) for name in modalities if name not in configs}
    needy = [name for name, rank in ranks.items() if rank is None or (rank > 2 and len(ranks) < len(modalities))]
    if needy:
        found = {name: dataset["train"].features[name] for name in needy}
        raise ValueError(
            f"the columns {found} need a processor: give `processors: {{{needy[0]}: {{type: ...}}}}` with a type out "
            f"of {list(PROCESSORS)}."
        )
    if any(rank > 2 for rank in ranks.values()):
        return dataset.with_format("torch"), None  # images and clips that are tensors already
    processor = MultimodalProcessor(
        {name: configs.get(name, {"type": "features"}) for name in modalities}, on_error=recipe.data.on_error
    )
    return processor.apply(dataset, num_proc=recipe.data.dataset_num_proc), processor


def numeric_rank(feature: Any) -> int | None:
    """How many axes a column of numbers has, 0 for plain numbers; None for text, images, audio and the like."""
    rank = len(getattr(feature, "shape", ()))  # Array2D to Array5D
    while isinstance(feature, (List, LargeList)):
        feature, rank = feature.feature, rank + 1
    dtype = getattr(feature, "dtype", None) or ""
    return rank if dtype.startswith(("int", "uint", "float", "bool")) else None


def build_config(recipe: Recipe, **options: Any) -> MultimodalConfig:
    """The config of the recipe's model; `options` go to MultimodalConfig."""
    return MultimodalConfig(**{**{name: getattr(recipe.model, name) for name in CONFIG_NAMES}, **options})


def build_model(recipe: Recipe, class_names: list[str] | None, num_labels: int) -> MultimodalForClassification:
    """The recipe's model: its checkpoint, or initialised by the recipe's seed.

    Raises:
        ValueError: the checkpoint's weights are missing, or the config is invalid.
    """
    checkpoint = recipe.model.model_name_or_path
    if checkpoint is not None:
        try:
            return MultimodalForClassification.from_pretrained(checkpoint, use_safetensors=True)
        except OSError as error:
            raise ValueError(f"model_name_or_path {checkpoint!r} cannot be loaded: {error}") from error
    names = class_names or [f"LABEL_{index}" for index in range(num_labels)]
    set_seed(recipe.training.seed)
    classes = {"id2label": dict(enumerate(names)), "label2id": {name: index for index, name in enumerate(names)}}
    return MultimodalForClassification(build_config(recipe, **classes))


def build_trainer(
    recipe: Recipe,
    dataset: DatasetDict,
    model: MultimodalForClassification,
    processor: MultimodalProcessor | None,
) -> MultimodalBalancedTrainer:
    """A trainer for the recipe's model on the processed splits."""
    modalities = list(model.encoders)
    trainer = MultimodalBalancedTrainer(
        model,
        recipe.training,
        data_collator=MultimodalDataCollator(
            modalities, num_labels=model.config.num_labels, pad_token_id=pad_token_id(processor)
        ),
        train_dataset=dataset["train"],
        eval_dataset=dataset["validation"],
        compute_metrics=classification_metrics,
    )
    CompactProgressCallback.replace_in(trainer, modalities)
    return trainer


def pad_token_id(processor: MultimodalProcessor | None) -> int:
    """What the collator pads token ids with: the tokenizer's padding; 0 without tokenizer or where several differ."""
    transforms = processor.transforms.values() if processor is not None else ()
    found = {transform.pad_token_id for transform in transforms if hasattr(transform, "pad_token_id")}
    return found.pop() if len(found) == 1 else 0
