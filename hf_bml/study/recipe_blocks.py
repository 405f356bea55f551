"""The options of a recipe, in three blocks: model, data and training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, make_dataclass
from typing import Any, get_args, get_origin, get_type_hints

import torch

from ..training.training_args import BalancedTrainingArguments
from .tasks import TASKS, check_task_name

FROM_UNIMODAL = ("encoders", "models")


@dataclass
class TaskArguments:
    """What is trained: a task, or a checkpoint."""

    task: str = field(
        default="classification",
        metadata={"help": f"What the model predicts: {', '.join(TASKS)}. Model options depend on it."},
    )
    model_name_or_path: str | None = field(
        default=None,
        metadata={"help": "Start from this checkpoint (folder or Hub id) with its own config."},
    )
    from_unimodal: str | None = field(
        default=None,
        metadata={
            "help": "Train each modality alone first, by the same recipe, and take over the `encoders`, or the whole "
            "`models`: an ensemble, of which nothing more is trained (fusion: average_probabilities, average_logits)."
        },
    )

    def __post_init__(self) -> None:
        check_task_name(self.task)
        if self.from_unimodal not in (None, *FROM_UNIMODAL):
            raise ValueError(f"from_unimodal must be one of {', '.join(FROM_UNIMODAL)}, found {self.from_unimodal!r}.")
        parse_json_fields(self)


def model_fields() -> list[tuple[str, Any, Any]]:
    """The options of all tasks' configs, as `make_dataclass` takes them; different helps name their tasks."""
    found: dict[str, tuple[str, Any, Any]] = {}
    helps: dict[str, dict[str, list[str]]] = {}
    for task_name, task in TASKS.items():
        hints = get_type_hints(task.config_class, localns={"torch": torch})  # a name that PreTrainedConfig lacks
        for name, option in task.options.items():
            own = helps.setdefault(name, {})
            own.setdefault(option.metadata["help"], []).append(task_name)
            texts = [f"Of {', '.join(owners)}: {text}" if len(own) > 1 else text for text, owners in own.items()]
            is_mapping = dict in map(get_origin, get_args(hints[name]))
            hint = dict[str, Any] | str | None if is_mapping else hints[name]  # a command line gives it as JSON
            found[name] = name, hint, field(default=option.default, metadata={"help": " ".join(texts)})
    return list(found.values())


ModelArguments = make_dataclass(
    "ModelArguments",
    model_fields(),
    bases=(TaskArguments,),
    namespace={
        "__doc__": "What is trained: a task, the options of its config under their own names, or a checkpoint.",
        "__module__": __name__,
    },
)


@dataclass
class DataArguments:
    """What it is trained on."""

    dataset: str = field(
        default="digits",
        metadata={"help": "A dataset of hf_bml.data, or `package.module:function` that returns a DatasetDict."},
    )
    dataset_options: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Keywords of the dataset's load function, such as {data_dir: ...}."}
    )
    processors: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Processor config per modality, each with a `type` and its options."}
    )
    on_error: str = field(
        default="raise",
        metadata={"help": "What becomes of a file that cannot be used: raise; mask, absent; or skip, the sample out."},
    )
    dataset_num_proc: int | None = field(default=None, metadata={"help": "Processes that prepare the data."})
    stream_buffer_size: int = field(
        default=1000,
        metadata={
            "help": "Raw rows in memory, per process that loads data, that a streamed training split is shuffled in; "
            "0: the shards alone are shuffled."
        },
    )

    train_per_class: int | None = field(
        default=None,
        metadata={"help": "Train on at most so many rows of each class, drawn by the seed of the run."},
    )
    folds: int | None = field(
        default=None,
        metadata={
            "help": "Cut all rows anew into so many folds, along the data set's column `group` if it has one, else "
            "evenly by class: one is tested, the next one is validation."
        },
    )
    fold: int | None = field(
        default=None, metadata={"help": "The fold that is tested, from 0 (the default); hf-bml compare tests each."}
    )

    def __post_init__(self) -> None:
        parse_json_fields(self)
        if self.train_per_class is not None and self.train_per_class < 1:
            raise ValueError(f"train_per_class must be at least 1, found {self.train_per_class}.")
        if self.folds is not None and self.folds < 3:
            raise ValueError(f"folds must be at least 3 (training, validation and test), found {self.folds}.")
        if self.fold is not None and not 0 <= self.fold < (self.folds or 0):
            raise ValueError(f"fold must be in [0, folds), found {self.fold} with folds {self.folds}.")
        if self.stream_buffer_size < 0:
            raise ValueError(f"stream_buffer_size must be at least 0, found {self.stream_buffer_size}.")

    @property
    def is_streamed(self) -> bool:
        """Whether the data is asked to be read while training."""
        return bool((self.dataset_options or {}).get("streaming"))


BLOCKS = (ModelArguments, DataArguments, BalancedTrainingArguments)
OPTION_NAMES = [f.name for block in BLOCKS for f in fields(block) if f.init]


def parse_json_fields(arguments: Any) -> None:
    """Replaces JSON strings, as the command line gives them, by mappings, in all fields that hold one.

    Raises:
        ValueError: neither a mapping nor JSON of one.
    """
    hints = get_type_hints(type(arguments))
    for name in (name for name, hint in hints.items() if dict in map(get_origin, get_args(hint))):
        value = vars(arguments)[name]
        if isinstance(value, str):
            value = read_json(name, value)
        if value is not None and not isinstance(value, Mapping):
            raise ValueError(f"{name} must be a mapping, found {value!r}.")
        setattr(arguments, name, value)


def read_json(name: str, text: str) -> Any:
    """What a command line's JSON says; ValueError, naming the option, where it is not JSON."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"--{name} must be a JSON mapping, found {text!r} ({error}).") from error
