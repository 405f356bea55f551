"""What a model card tells about a training, read from its trainer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, fields
from enum import Enum
from pathlib import Path
from typing import Any

import transformers
from transformers import PreTrainedModel, Trainer, TrainingArguments

from ..hub.environment import environment
from ..hub.facts import CardFacts, is_finished, last_ratios, results_at
from ..hub.hidden_paths import hide_paths, without_paths
from ..models.face import ModelFace
from ..models.wrappers import adapter_base, without_adapter
from ..modulation import ModulationStack
from ..processing import MultimodalProcessor


class MultimodalTrainer(Trainer):
    """A trainer with what a card tells beside what every Trainer has.

    Attributes:
        face: that of its model.
        modalities: of the model, in its order.
        modulation: its modulations.
        run_options: what the card calls the training's settings; None for the arguments that differ from their
            defaults. `dataset` and `dataset_options` as in a recipe.
    """

    face: ModelFace
    modalities: Sequence[str]
    modulation: ModulationStack
    run_options: Mapping[str, Any] | None = None


def facts_of_trainer(trainer: MultimodalTrainer, name: str | None = None) -> CardFacts:
    """Facts of a trainer as it is now.

    Args:
        trainer: its `processing_class` counts if it is a `MultimodalProcessor`.
        name: of the model; default that of its repository, or of the output folder.
    """
    args, state, face = trainer.args, trainer.state, trainer.face
    model = trainer.accelerator.unwrap_model(trainer.model)
    finished = is_finished(state.log_history)
    step = state.best_global_step if finished and args.load_best_model_at_end else state.global_step
    options = trainer.run_options if trainer.run_options is not None else changed_arguments(args)
    saved = model if face.wrapped_model is None else face.wrapped_model
    kind = type(without_adapter(saved))
    processor = trainer.processing_class
    is_wrapped = face.wrapped_model is not None
    return CardFacts(
        name=name or (args.hub_model_id or Path(args.output_dir).resolve().name).split("/")[-1],
        model_class=type(without_adapter(model)).__name__,
        config={} if face.config is None else hide_paths(face.config.to_dict()),
        modalities=list(trainer.modalities),
        processors=hide_paths(processor.modalities) if isinstance(processor, MultimodalProcessor) else {},
        modulations={modulation.name: asdict(modulation.config) for modulation in trainer.modulation},
        settings=without_paths(options),
        results=results_at(state.log_history, step),
        ratios=last_ratios(state.log_history, trainer.modalities),
        history=list(state.log_history),
        step=step,
        max_steps=state.max_steps,
        is_finished=finished,
        wrapped_class=public_class(kind) if is_wrapped else None,
        adapter_base=hide_paths(adapter_base(saved)),
        is_pretrained=is_wrapped and issubclass(kind, PreTrainedModel),
        balance=face.balance_arguments or {},
        seed=args.seed,
        environment=environment(args.world_size),
    )


def public_class(kind: type) -> str:
    """A class with the module that it is imported from.

    Example:
        >>> from transformers import CLIPModel
        >>> public_class(CLIPModel)
        'transformers.CLIPModel'
    """
    # of a module that imports its classes when they are asked for
    is_public = getattr(transformers, kind.__name__, None) is kind
    return f"{'transformers' if is_public else kind.__module__}.{kind.__name__}"


def changed_arguments(args: TrainingArguments) -> dict[str, Any]:
    """The training arguments that differ from their defaults and that plain YAML can hold."""
    changed = {}
    for argument in fields(args):
        default = argument.default if argument.default is not MISSING else argument.default_factory()
        value = vars(args)[argument.name]
        value = value.value if isinstance(value, Enum) else value
        if argument.init and value != default and isinstance(value, (str, int, float, bool, dict)):
            changed[argument.name] = value
    return changed
