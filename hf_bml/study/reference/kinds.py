"""The kinds of things that a recipe can name, and what each of them declares: purpose, options, an example.

What a registry holds is here by itself, with what its class declares; nothing is listed a second time.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import yaml
from transformers import TrainingArguments

from ...data.loading import dataset_function, dataset_names
from ...ground.declared import (
    REQUIRED,
    Option,
    description_of,
    in_yaml,
    note_of,
    one_line,
    options_of,
    purpose_of,
    usage_of,
)
from ...ground.suggestion import did_you_mean
from ...ground.task import TASKS as PROBLEMS
from ...models import ENCODERS, FUSIONS, MultimodalConfig
from ...models.interaction import INTERACTIONS
from ...models.question_answering import QUESTION_ANSWERING_ARCHITECTURES
from ...models.segments import SEGMENT_ARCHITECTURES
from ...models.segments.inputs import SEGMENT_INPUTS
from ...modulation import BUNDLES, MODULATIONS, ModulationConfig
from ...processing import CORRUPTIONS, PROCESSORS
from ...training.training_args import BalancedTrainingArguments
from ..recipe_blocks import DataArguments, TaskArguments
from ..tasks import TASKS

MODALITIES = {"audio": "audio", "image": "visual", "text": "text", "vector": "pose"}  # in examples, by kind of signal
TRAINING_DOCUMENTATION = "https://huggingface.co/docs/transformers/main_classes/trainer#transformers.TrainingArguments"
HELP = {  # where the text of transformers does not say what these commands do
    "eval_strategy": "When to evaluate: no, steps or epoch. If not given: every eval_steps if there are any, else ten "
    "times in a training of max_steps, else every epoch; no with load_best_model_at_end.",
    "logging_steps": "Log every so many steps, or such a part of the training if below 1. With the default, a shorter "
    "training than 10,000 steps logs 20 times.",
    "output_dir": "Folder of the run; runs/DATASET/RECIPE if not given.",
    "optim_args": "Options of the optimizer as key=value,key=value, such as momentum=0.9 for sgd.",
    "resume_from_checkpoint": "`auto` for the newest checkpoint in output_dir, or from scratch; `last`: "
    "there must be one; or the folder of one.",
}


@dataclass(frozen=True)
class Part:
    """One thing that a recipe can name.

    Attributes:
        name: in YAML.
        purpose: one line.
        notes: further paragraphs.
        options: what it takes.
        example: a recipe's keys that use it; None if none is declared.
        home: the module that declares it.
        further: options of another library, which REFERENCE.md leaves to that library's documentation.
    """

    name: str
    purpose: str
    notes: list[str]
    options: list[Option]
    example: Mapping[str, Any] | None
    home: str
    further: list[Option] = ()


@dataclass(frozen=True)
class Kind:
    """Things of one kind.

    Attributes:
        text: what they are, and where a recipe names them.
        names: of all of them.
        part: one of them by its name, or by the path of the user's own where the kind takes one.
        shared: options that all of them have.
        takes_paths: whether a path may stand for one of the user's own.
    """

    text: str
    names: Callable[[], Iterable[str]]
    part: Callable[[str], Part]
    shared: Callable[[], list[Option]] = list
    takes_paths: bool = True

    def find(self, kind: str, name: str) -> Part:
        """The part of that name; ValueError, naming the closest one, if there is none."""
        known = list(self.names())
        if name not in known and not (self.takes_paths and {":", "."} & set(name)):
            raise ValueError(f"unknown name {name!r} among {kind}.{did_you_mean(name, known)} Known: {known}.")
        return self.part(name)


def part_of(
    name: str, owner: Any, options: list[Option], example: Mapping[str, Any] | None, notes: Iterable[str] = ()
) -> Part:
    """A part with the purpose and the notes that the docstring of `owner` gives."""
    home = owner if inspect.ismodule(owner) else inspect.getmodule(owner)
    return Part(name, purpose_of(owner), [*description_of(owner), *notes], options, example, home.__name__)


def defaults(options: Iterable[Option]) -> dict[str, Any]:
    """The defaults that are a value, by name, for an example."""
    given = {each.name: yaml.safe_load(each.default) for each in options if each.default != REQUIRED}
    return {name: value for name, value in given.items() if value is not None}


def task_part(name: str) -> Part:
    """A task, with the options of its model."""
    task = TASKS[name]
    if task.problem_type is not None:
        notes = ["The model and its options are those of `classification`."]
        return part_of(
            name, PROBLEMS[task.problem_type], [], {"task": name, **(usage_of(task.config_class) or {})}, notes
        )
    options = options_of(task.config_class, task.options)
    return part_of(name, task.model_class, options, usage_of(task.config_class))


def encoder_part(name: str) -> Part:
    """An encoder."""
    config = ENCODERS.find(name, SEGMENT_INPUTS).config_class
    return part_of(name, config, options_of(config), usage_of(config))


def processor_part(name: str) -> Part:
    """A transform."""
    transform = PROCESSORS.find(name)
    return part_of(name, transform, options_of(transform), usage_of(transform))


def corruption_part(name: str) -> Part:
    """A corruption; the example has the first processor that it fits."""
    corruption = CORRUPTIONS.find(name)
    fitting = (key for key, each in PROCESSORS.items() if each.signal == corruption.signal and ":" not in key)
    kind = next(key for key in fitting if all(each.default != REQUIRED for each in options_of(PROCESSORS[key])))
    severities = sorted([corruption.severities[0], corruption.severities[-1]]) if corruption.severities else []
    strength = {corruption.severity: severities} if corruption.severity else {}
    example = {"type": kind, "augment": {name: strength, "p": 0.5}}
    tried = f"Tried by default at {corruption.severity} {', '.join(map(in_yaml, corruption.severities))}."
    notes = [f"Kind of signal: {corruption.signal}. {tried if corruption.severity else ''}".strip()]
    shown = {"processors": {MODALITIES[corruption.signal]: example}}
    return part_of(name, corruption, options_of(corruption), shown, notes)


class Watched:
    """The default options of a model, and the names of those that were read."""

    def __init__(self) -> None:
        self.num_labels, self.names = 2, {}
        self.defaults = vars(MultimodalConfig())

    def __getattr__(self, name: str) -> Any:
        self.names[name] = None
        return self.defaults[name]


def fusion_part(name: str) -> Part:
    """A fusion head, with the model options that it reads when it is built."""
    head, config = FUSIONS.find(name), Watched()
    head({"audio": 2, "visual": 2}, config)
    options = options_of(MultimodalConfig, config.names)
    own = [each for each in options if each not in fusion_options()]
    return part_of(name, head, options, {"fusion": name, **defaults(own)})


def fusion_options() -> list[Option]:
    """The options of every head that ends in layers."""
    return options_of(MultimodalConfig, ("head_hidden_sizes", "head_dropout"))


def chosen_part(key: str, registry: Mapping[str, Any], name: str, further: Mapping[str, Any] | None = None) -> Part:
    """An interaction or an architecture, whose options stand under `<key>_options`."""
    owner = registry[name]
    options = options_of(owner.options_class)
    example = {**(further or {}), key: name, f"{key}_options": defaults(options)}
    return replace(part_of(name, sys.modules[owner.__module__], options, example), notes=[])


def architecture_part(name: str) -> Part:
    """An architecture of questions or segments."""
    asks = name in QUESTION_ANSWERING_ARCHITECTURES
    registry = QUESTION_ANSWERING_ARCHITECTURES if asks else SEGMENT_ARCHITECTURES
    task = "question_answering" if asks else "segment_classification"
    return chosen_part("architecture", registry, name, {"task": task})


def modulation_part(name: str) -> Part:
    """A modulation or a bundle of them."""
    if name in BUNDLES:
        bundle = BUNDLES[name]
        stands = f"Stands for `modulations: {in_yaml(bundle.modulations)}`; give other options to these beside it."
        home = inspect.getmodule(type(bundle)).__name__
        return Part(name, bundle.help, [stands], [], {"modulations": name}, home)
    method = MODULATIONS.find(name)
    module, config = sys.modules[method.__module__], method.config_class
    usage = usage_of(module) or {}
    example = usage if name in usage.get("modulations", ()) else {"modulations": {name: {}}}
    values = note_of(module, "Values")
    notes = [f"Values: {values}"] if values else []
    notes += [f"`preset: {each}` sets {in_yaml(given)}." for each, given in config.presets().items() if given]
    return part_of(name, method, options_of(config), example, notes)


def modulation_options() -> list[Option]:
    """The options of every modulation."""
    return options_of(ModulationConfig)


def dataset_part(name: str) -> Part:
    """A data set, with the keywords of its function."""
    load = dataset_function(name)
    module = sys.modules[load.__module__]
    options = options_of(load)
    given = defaults(options)
    example = {"dataset": name} | ({"dataset_options": given} if given else {})
    return replace(part_of(name, module, options, usage_of(module) or example), notes=[])


def block_part(name: str) -> Part:
    """A block of a recipe's options, or all that a training takes."""
    if name == "training":
        theirs = {each.name: one_line(each.metadata["help"]) for each in fields(TrainingArguments)} | HELP
        options = options_of(BalancedTrainingArguments)
        own = [each for each in options if each.name not in theirs]
        further = [replace(each, meaning=theirs[each.name]) for each in options if each.name in theirs]
        notes = [f"All others are those of `transformers.TrainingArguments`: {TRAINING_DOCUMENTATION}"]
        purpose = "How it is trained: options of the balanced trainer beside those of the Trainer."
        example = {"learning_rate": 0.001, "num_train_epochs": 3, "modulations": {"balanced": {}}}
        return Part(name, purpose, notes, own, example, BalancedTrainingArguments.__module__, further)
    block = {"model": TaskArguments, "data": DataArguments}[name]
    return part_of(name, block, options_of(block), defaults(options_of(block)))


KINDS: dict[str, Kind] = {
    "tasks": Kind(
        "What a model predicts: `task: NAME`. The options are keys of the recipe.",
        lambda: TASKS,
        task_part,
        takes_paths=False,
    ),
    "encoders": Kind(
        "From the input of a modality to its feature: `modalities: {MODALITY: {type: NAME, ...}}`; your own are "
        "`type: package.module:Name`.",
        lambda: dict.fromkeys([*ENCODERS, *SEGMENT_INPUTS]),
        encoder_part,
    ),
    "processors": Kind(
        "Transforms, from a column of the data set to tensors: `processors: {MODALITY: {type: NAME, ...}}`; your own "
        "are `type: package.module:Name`.",
        lambda: PROCESSORS,
        processor_part,
    ),
    "corruptions": Kind(
        "What makes signals worse. In training, as `augment` of a processor: by options of each, a range for its "
        "strength, and the probability `p`. On the command line of `hf-bml robustness`: `--corruptions "
        "audio.babble:snr=0`.",
        lambda: CORRUPTIONS,
        corruption_part,
    ),
    "fusions": Kind(
        "Heads that join the features: `fusion: NAME`; your own are `fusion: package.module:Name`. The options are "
        "keys of the recipe.",
        lambda: FUSIONS,
        fusion_part,
        fusion_options,
    ),
    "interactions": Kind(
        "What encoders exchange before the fusion: `interaction: NAME`, with `interaction_options: {...}`.",
        lambda: INTERACTIONS,
        lambda name: chosen_part("interaction", INTERACTIONS, name),
        takes_paths=False,
    ),
    "architectures": Kind(
        "What joins the modalities in the tasks question_answering and segment_classification: `architecture: NAME`, "
        "with `architecture_options: {...}`.",
        lambda: [*QUESTION_ANSWERING_ARCHITECTURES, *SEGMENT_ARCHITECTURES],
        architecture_part,
        takes_paths=False,
    ),
    "modulations": Kind(
        "Methods that balance modalities: `modulations: {NAME: {...}}`, several if need be; your own are "
        "`package.module:Name`. On the command line `--modulations.opm.q_base 0.5`.",
        lambda: [*MODULATIONS, *BUNDLES],
        modulation_part,
        modulation_options,
    ),
    "datasets": Kind(
        "Where rows come from: `dataset: NAME`, with `dataset_options: {...}`; your own is the path of a function, "
        "`dataset: package.module:function`.",
        dataset_names,
        dataset_part,
    ),
    "recipe": Kind(
        "Further keys of every recipe, by block.", lambda: ("model", "data", "training"), block_part, takes_paths=False
    ),
}


def parts(kind: str) -> list[Part]:
    """Everything of a kind that this package has: what was registered by a path is left out."""
    return [KINDS[kind].part(name) for name in KINDS[kind].names() if ":" not in name]


def found_parts(names: list[str]) -> list[tuple[str, Part]]:
    """The parts that a command line asks for, each with its kind: KIND, KIND NAME ..., or NAME ... of any kind.

    Raises:
        ValueError: an unknown name; the closest one is named.
    """
    if names and names[0] in KINDS:
        kind = KINDS[names[0]]
        chosen = names[1:] or list(kind.names())
        return [(names[0], kind.find(names[0], name)) for name in chosen]
    found = []
    for name in names:
        homes = [key for key, kind in KINDS.items() if name in kind.names()]
        if not homes:
            known = [*KINDS, *(each for kind in KINDS.values() for each in kind.names())]
            raise ValueError(
                f"unknown name {name!r}.{did_you_mean(name, known)} Kinds are {', '.join(KINDS)}; `hf-bml options` "
                "lists what they hold."
            )
        found += [(key, KINDS[key].part(name)) for key in homes]
    return found
