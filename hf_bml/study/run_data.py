"""The data of a run, as its recipe describes it: loaded, cut, processed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from datasets import DatasetDict, IterableDatasetDict

from ..data import load_multimodal_dataset
from ..data.protocols import with_protocol
from ..models import expected_input
from ..processing import PROCESSORS, MultimodalProcessor, Transform
from ..processing.raw_columns import numeric_rank
from .recipe import Recipe
from .run_model import recipe_modalities


def processor_configs(recipe: Recipe) -> dict[str, Any]:
    """The recipe's processors; without any, those of the checkpoint that it starts from.

    What the encoders decide (`Transform.of_the_encoder`) and the recipe does not say is what pretrained ones expect,
    or what the checkpoint's processor has. What a processor learned from the checkpoint's training data stays: a
    vocabulary always, as its encoder knows no other; anything else unless the recipe gives the processor other
    options.

    Raises:
        ValueError: what a pretrained encoder expects is not written down where its weights are from.
    """
    given = dict(recipe.data.processors or {})
    if without_source := {name for name, options in given.items() if missing_source(options)}:
        superfluous = without_source - set(recipe_modalities(recipe))  # such as the text of a unimodal run
        given = {name: options for name, options in given.items() if name not in superfluous}
    if recipe.model.model_name_or_path is None:
        encoders = recipe.model.modalities or {}
        return {
            name: for_encoder(name, options, encoders[name]) if name in encoders else options
            for name, options in given.items()
        }
    try:
        saved = MultimodalProcessor.from_pretrained(recipe.model.model_name_or_path).modalities
    except OSError:  # it holds no processor_config.json
        return given
    if not given:
        return dict(saved)
    return {name: with_what_it_learned(options, saved.get(name, {})) for name, options in given.items()}


def missing_source(options: Any) -> bool:
    """Whether a processor lacks the tokenizer or feature extractor, which only the modality's encoder can tell."""
    transform = PROCESSORS.find(options.get("type")) if isinstance(options, Mapping) else Transform
    return transform.source_option in transform.of_the_encoder and transform.source_option not in options


def for_encoder(modality: str, options: dict[str, Any], encoder: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's options of a processor, completed by what the modality's pretrained encoder expects."""
    if not isinstance(options, Mapping):
        return options
    wanted = [name for name in PROCESSORS.find(options.get("type")).of_the_encoder if name not in options]
    return {**options, **expected_input(modality, encoder, wanted)} if wanted else options


def with_what_it_learned(options: dict[str, Any], saved: dict[str, Any]) -> dict[str, Any]:
    """A recipe's options of a processor, completed from a saved one; see `processor_configs`."""
    if options.get("type") == saved.get("type"):
        transform = PROCESSORS.find(options["type"])
        stays = [*transform.of_the_encoder, "vocabulary"]
        if transform.source_option not in options:
            stays.append("files")
        options = {**options, **{name: saved[name] for name in stays if name in saved and name not in options}}
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
        found = ", ".join(f"{name} ({type(dataset['train'].features[name]).__name__})" for name in needy)
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
