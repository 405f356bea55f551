"""The parts of a run, as its recipe describes them: modalities, processors, data, model, trainer."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from datasets import (
    Array2D,
    Array3D,
    Array4D,
    Array5D,
    ClassLabel,
    DatasetDict,
    Features,
    IterableDatasetDict,
    LargeList,
    List,
    Value,
)
from transformers import AutoConfig, EvalPrediction, set_seed

from ..data import load_multimodal_dataset
from ..data.protocols import with_protocol
from ..models.configuration_multimodal import ModalitiesConfig
from ..models.pretrained import MultimodalPreTrainedModel
from ..processing import PROCESSORS, MultimodalDataCollator, MultimodalProcessor
from ..processing.streaming import ProcessedStreams
from ..training.trainer import MultimodalBalancedTrainer
from .methods import model_options_of
from .progress import CompactProgressCallback
from .recipe import Recipe
from .tasks import TASKS, Task

ARRAYS = (Array2D, Array3D, Array4D, Array5D)


def recipe_task(recipe: Recipe) -> Task:
    """What the recipe trains for."""
    return TASKS[recipe.model.task]


def checkpoint_config(name_or_path: str) -> ModalitiesConfig:
    """The config of a checkpoint, of any task.

    Raises:
        ValueError: no checkpoint there, or one of another kind of model.
    """
    try:
        config = AutoConfig.from_pretrained(name_or_path)
    except OSError as error:
        raise ValueError(f"model_name_or_path {name_or_path!r} is not a checkpoint: {error}") from error
    if type(config) not in [task.config_class for task in TASKS.values()]:
        raise ValueError(
            f"model_name_or_path {name_or_path!r}: expected a multimodal model, found {config.model_type}."
        )
    return config


def check_checkpoint_task(recipe: Recipe) -> None:
    """Raises ValueError if the checkpoint that the recipe starts from is one of another task."""
    found = type(checkpoint_config(recipe.model.model_name_or_path))
    if found is not recipe_task(recipe).config_class:
        task = next(name for name, task in TASKS.items() if task.config_class is found)
        raise ValueError(
            f"model_name_or_path {recipe.model.model_name_or_path!r} is a model of task {task}, but the recipe has "
            f"task: {recipe.model.task}. Set task: {task}."
        )


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

    What a processor learned from the checkpoint's training data stays: a vocabulary always, as its encoder knows no
    other; anything else unless the recipe gives the processor other options.
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
    return {name: with_what_it_learned(options, saved.get(name, {})) for name, options in given.items()}


def with_what_it_learned(options: dict[str, Any], saved: dict[str, Any]) -> dict[str, Any]:
    """A recipe's options of a processor, completed from a saved one; see `processor_configs`."""
    if "vocabulary" in saved and options.get("type") == saved["type"]:
        return {"vocabulary": saved["vocabulary"], **options}
    unfitted = {key: value for key, value in saved.items() if key != "fitted"}
    return saved if options == unfitted else options


def build_data(recipe: Recipe, augment: bool = True) -> tuple[DatasetDict, MultimodalProcessor | None]:
    """The processed splits, and the processor of the model's modalities (None if every column is a tensor already).

    The main process prepares them, and the others find them in the cache.

    Args:
        recipe: of the run.
        augment: whether the training split is augmented and, of streamed data, shuffled.

    Raises:
        ValueError: unknown dataset or option, a processor for a column that the dataset lacks, a modality without
            column, without processor where it needs one, or a protocol that the data does not allow.
    """
    return _prepared_data(recipe, augment)[:2]


def raw_data(recipe: Recipe, augment: bool = False) -> DatasetDict | IterableDatasetDict:
    """The splits that `build_data` processes, as they were before that; not loaded again if it was called before."""
    return _prepared_data(recipe, augment)[3]


def protocol_facts(recipe: Recipe) -> dict[str, Any]:
    """What was done to the splits that `build_data` returns, see [`with_protocol`](../data/protocols.py)."""
    return _prepared_data(recipe, augment=True)[2]


def _prepared_data(recipe: Recipe, augment: bool) -> Prepared:
    modalities = recipe_modalities(recipe)
    configs = processor_configs(recipe)
    data = recipe.data
    loaded = json.dumps(_load_key(recipe), default=str)
    key = json.dumps([loaded, data.on_error, data.stream_buffer_size, configs, modalities, augment], default=str)
    if key not in _last_data:
        if len(_last_data) == KEPT_DATA:
            del _last_data[next(iter(_last_data))]
        with recipe.training.main_process_first(desc="preparing the data"):
            if loaded not in _last_loaded:
                _last_loaded.clear()
                _last_loaded[loaded] = _load_data(recipe)
            dataset, facts = _last_loaded[loaded]
            processed, processor = _process_data(recipe, dataset, modalities, configs, augment)
            _last_data[key] = processed, processor, facts, dataset
    return _last_data[key]


Loaded = DatasetDict | IterableDatasetDict
Prepared = tuple[DatasetDict, MultimodalProcessor | None, dict[str, Any], Loaded]
KEPT_DATA = 6  # of a joint model and its modalities; several runs of a command share it
_last_data: dict[str, Prepared] = {}
_last_loaded: dict[str, tuple[Loaded, dict[str, Any]]] = {}  # a run and what looks at it process the same rows


def _load_key(recipe: Recipe) -> list[Any]:
    data = recipe.data
    drawn = data.train_per_class and (data.train_per_class, recipe.training.seed)
    return [data.dataset, data.dataset_options, data.folds, data.fold, drawn]


def _load_data(recipe: Recipe) -> tuple[Loaded, dict[str, Any]]:
    """The raw splits, and what the protocol has done to them."""
    options = recipe.data.dataset_options or {}
    try:
        dataset = load_multimodal_dataset(recipe.data.dataset, **options)
    except TypeError as error:
        if not options:  # then it is not the recipe's fault
            raise
        raise ValueError(f"dataset {recipe.data.dataset!r} with the options {options}: {error}") from error
    data = recipe.data
    return with_protocol(dataset, data.train_per_class, data.folds, data.fold or 0, recipe.training.seed)


def _process_data(
    recipe: Recipe, dataset: Loaded, modalities: list[str], configs: dict[str, Any], augment: bool
) -> tuple[DatasetDict, MultimodalProcessor | None]:
    if isinstance(dataset, IterableDatasetDict) and augment and recipe.data.stream_buffer_size > 1:
        # undecoded rows; the trainer seeds the order
        dataset = IterableDatasetDict(dataset)
        dataset["train"] = dataset["train"].shuffle(seed=0, buffer_size=recipe.data.stream_buffer_size)
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
    return processor.apply(dataset, num_proc=recipe.data.dataset_num_proc, augment=augment), processor


def numeric_rank(feature: Any) -> int | None:
    """How many axes a column of numbers has, 0 for plain numbers; None for text, images, audio and the like."""
    rank = 0
    while isinstance(feature, (List, LargeList)):
        feature, rank = feature.feature, rank + 1
    if isinstance(feature, ARRAYS):
        rank += len(feature.shape)
    is_plain = isinstance(feature, (Value, ClassLabel, *ARRAYS))
    return rank if is_plain and feature.dtype.startswith(("int", "uint", "float", "bool")) else None


def build_config(recipe: Recipe, **options: Any) -> ModalitiesConfig:
    """The config of the recipe's model, with what its modulations need of it where the recipe does not say.

    Args:
        recipe: without a checkpoint to start from.
        options: of the config's class; they win.
    """
    task = recipe_task(recipe)
    given = {name: vars(recipe.model)[name] for name in task.options}
    for name, chosen in (recipe.training.modulations or {}).items():
        needed = model_options_of(name, chosen).items()
        given |= {option: value for option, value in needed if option in given and option not in recipe.explicit}
    return task.config_class(**{**given, **options})


def build_model(recipe: Recipe, class_names: list[str] | None, num_labels: int) -> MultimodalPreTrainedModel:
    """The recipe's model: its checkpoint, or initialised by the recipe's seed.

    Raises:
        ValueError: the checkpoint's weights are missing, or the config is invalid.
    """
    checkpoint = recipe.model.model_name_or_path
    model_class = recipe_task(recipe).model_class
    if checkpoint is not None:
        try:
            model = model_class.from_pretrained(checkpoint, use_safetensors=True)
        except OSError as error:
            raise ValueError(f"model_name_or_path {checkpoint!r} cannot be loaded: {error}") from error
        name_classes(model, class_names)
        return model
    names = class_names or [f"LABEL_{index}" for index in range(num_labels)]
    set_seed(recipe.training.seed)
    classes = {"id2label": dict(enumerate(names)), "label2id": {name: index for index, name in enumerate(names)}}
    return model_class(build_config(recipe, **classes))


def name_classes(model: MultimodalPreTrainedModel, names: list[str] | None) -> None:
    """Gives a checkpoint's model the class names of the data that it is trained on now, if these have as many.

    Raises:
        ValueError: the data has the same classes in another order.
    """
    old = [model.config.id2label[index] for index in range(model.config.num_labels)]
    if names is None or names == old or len(names) != len(old):
        return
    if sorted(names) == sorted(old):
        raise ValueError(
            f"the checkpoint's classes are {old}, the data has the same in another order, {names}. Number the data's "
            "labels as the checkpoint does."
        )
    model.config.id2label = dict(enumerate(names))
    model.config.label2id = {name: index for index, name in enumerate(names)}


def build_trainer(
    recipe: Recipe,
    dataset: DatasetDict,
    model: MultimodalPreTrainedModel,
    processor: MultimodalProcessor | None,
) -> MultimodalBalancedTrainer:
    """A trainer for the recipe's model on the processed splits."""
    modalities = list(model.encoders)
    task = recipe_task(recipe)
    check_vocabularies(model, processor)
    trainer = MultimodalBalancedTrainer(
        model,
        recipe.training,
        data_collator=MultimodalDataCollator(
            modalities,
            num_labels=model.config.num_labels,
            pad_token_id=pad_token_id(processor),
            **task.collator_options,
        ),
        train_dataset=dataset["train"],
        eval_dataset=dataset["validation"],
        compute_metrics=evaluation_metrics(task, dataset),
        processing_class=processor,  # saved and pushed with the model
    )
    CompactProgressCallback.replace_in(trainer, modalities)
    return trainer


def column_types(dataset: DatasetDict | IterableDatasetDict) -> Features:
    """The types of the training split's columns; of processed streams, of those that are passed on as they are."""
    return dataset.passed_features["train"] if isinstance(dataset, ProcessedStreams) else dataset["train"].features


def evaluation_metrics(task: Task, dataset: DatasetDict) -> Callable[[EvalPrediction], dict[str, float]]:
    """The task's metrics; they get the names of the classes that are passed on, where the data has them."""
    names = type_names(task, dataset)
    return task.metrics if names is None else partial(task.metrics, type_names=names)


def type_names(task: Task, dataset: DatasetDict) -> list[str] | None:
    """The names of the classes that are passed on to the task's metrics; None where there are none."""
    features = column_types(dataset) or {}
    for column in task.collator_options.get("passed_on", ()):
        if isinstance(features.get(column), ClassLabel):
            return features[column].names
    return None


def check_vocabularies(model: MultimodalPreTrainedModel, processor: MultimodalProcessor | None) -> None:
    """Raises ValueError if a processor gives token ids that the modality's encoder does not have."""
    for name, transform in (processor.transforms if processor is not None else {}).items():
        encoder = model.config.modalities.get(name, {})
        size = encoder.get("vocab_size", (encoder.get("config") or {}).get("vocab_size"))
        if size is not None and transform.vocab_size > size:
            raise ValueError(
                f"modality {name!r}: the encoder has vocab_size={size}, but its processor gives "
                f"{transform.vocab_size} token ids. Set vocab_size to {transform.vocab_size}."
            )


def pad_token_id(processor: MultimodalProcessor | None) -> int:
    """What the collator pads token ids with; 0 without processor."""
    return 0 if processor is None else processor.pad_token_id
