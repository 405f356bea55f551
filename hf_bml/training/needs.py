"""What modulations need, checked against what the model, the data and the way of launching can do."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import datasets
from transformers import Trainer, TrainingArguments
from transformers.integrations import is_deepspeed_zero3_enabled

from ..ground.task import CLASSIFICATION
from ..models.configuration_multimodal import ModalitiesConfig
from ..models.face import ModelFace
from ..modulation import ModulationStack
from .epochs import PlannedTrainer
from .training_args import own_arguments


def check_needs(trainer: PlannedTrainer, face: ModelFace, stack: ModulationStack) -> None:
    """Checks, when a training starts, that every need of the modulations can be met.

    Args:
        trainer: about to train.
        face: that of its model.
        stack: its modulations.

    Raises:
        ValueError: naming the methods, the obstacle, and what works instead.
    """
    check_parallelism(trainer, stack)
    check_encoders_share_nothing(face, stack)
    check_task(face, stack)
    check_head(face, stack, type(trainer.model).__name__)
    check_scores(face, stack)
    check_rows(trainer, stack)
    if isinstance(trainer.train_dataset, datasets.IterableDataset):
        check_streamed_training(trainer.args, stack)


def check_parallelism(trainer: Trainer, stack: ModulationStack) -> None:
    """Raises ValueError where the way of running cannot do what the modulations need."""
    if trainer.args.n_gpu > 1:
        raise ValueError(
            f"One process with {trainer.args.n_gpu} GPUs would use nn.DataParallel, whose replicas lose the "
            "discrepancy scores. Launch with `accelerate launch` or `torchrun`, or show one GPU "
            "(CUDA_VISIBLE_DEVICES=0)."
        )
    whole = stack.who("whole_model") or stack.who("separate_gradients")
    if whole and (trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled):
        raise ValueError(
            f"{whole} need the whole model on every process, but DeepSpeed and FSDP shard it. Use DDP, that is, plain "
            "`accelerate launch` or `torchrun`."
        )
    on_gradients = stack.who("gradients")
    if not on_gradients:
        return
    if trainer.is_deepspeed_enabled:
        raise ValueError(
            f"{on_gradients} change gradients between backward and step, but DeepSpeed steps inside backward. "
            "Use ogm with placement: graph (without noise), DDP or FSDP2, or opm, which acts on the features."
        )
    if trainer.is_fsdp_enabled and trainer.accelerator.state.fsdp_plugin.fsdp_version == 1:
        raise ValueError(
            f"{on_gradients} change gradients per parameter, which FSDP1 flattens. Use FSDP2 "
            "(fsdp_config: {version: 2}), DDP, ogm with placement: graph (without noise), or opm, which acts on the "
            "features."
        )


def check_encoders_share_nothing(face: ModelFace, stack: ModulationStack) -> None:
    """Raises ValueError if two modalities share an encoder parameter, but a modulation treats them apart."""
    names = stack.who("separate_encoders")
    if not names:
        return
    owned = {name: {id(p) for p in encoder.parameters()} for name, encoder in face.encoders.items()}
    for first, second in itertools.combinations(owned, 2):
        if owned[first] & owned[second]:
            raise ValueError(
                f"The encoders of {first!r} and {second!r} share parameters, so {names} cannot modulate one modality "
                "alone. Use separate encoders, or OPM, which acts on the features."
            )


def check_task(face: ModelFace, stack: ModulationStack) -> None:
    """Raises ValueError if modulations take logits or labels for those of one class out of several, but the model's
    task has other ones."""
    names = list(dict.fromkeys([*stack.who("classes"), *stack.who("class_numbers")]))
    if names and face.task.problem_type != CLASSIFICATION.problem_type:
        raise ValueError(
            f"{names} are defined for one class out of several, but the model's task is {face.task.problem_type}. Use "
            "methods that follow the task's own loss and score, such as opm, ogm, mod_drop or multi_loss."
        )


def check_head(face: ModelFace, stack: ModulationStack, kind: str) -> None:
    """Raises ValueError if the model's head cannot do what the modulations ask of it; `kind` is the model's class."""
    if (names := stack.who("features_only")) and not face.gradient_enters_by_features:
        raise ValueError(
            f"{names} act where a modality's gradient enters its encoder, at its feature, but in this {kind} it also "
            "reaches it in another way: recurrent layers behind the feature, an interaction, or classifiers of single "
            "modalities that are trained (auxiliary_loss_weight). Use ogm with placement: gradients, or a model with "
            "late fusion and auxiliary_loss_weight: null."
        )
    for need, reason in (
        ("fuse", face.why_not_fuse()),
        ("head_graph", face.why_no_head_graph()),
        ("unimodal_graph", face.why_no_unimodal_graph()),
        ("exact_split", face.why_no_exact_split()),
    ):
        if reason and (names := stack.who(need)):
            drawn = "tcmax" in names and not face.why_not_fuse()
            instead = " Or give tcmax `shuffles`, with which it takes this head." if drawn else ""
            raise ValueError(f"{names} need the head as a function of the features. {reason}{instead}")
    if (names := stack.who("own_heads")) and not face.trains_own_heads:
        raise ValueError(
            f"{names} train a classifier of its own for each modality, which this {kind} does not have. Set "
            "auxiliary_loss_weight: 0 in the model's config, which must be that of a MultimodalForClassification, "
            "MultimodalForQuestionAnswering or MultimodalForSegmentClassification."
        )
    if (names := stack.who("head_gradients")) and not face.head_parameters():
        raise ValueError(
            f"{names} change the head's gradient, but this {kind} has no parameters outside its encoders."
        )


def check_scores(face: ModelFace, stack: ModulationStack) -> None:
    """Raises ValueError if the model does not score every batch in full, but a modulation reads these predictions."""
    names = stack.who("current_logits")
    if names and (face.score_every > 1 or face.score_fraction < 1):
        raise ValueError(
            f"{names} read each batch's unimodal predictions, of which balance(score_every={face.score_every}, "
            f"score_fraction={face.score_fraction}) makes some only. Leave these two options out, or use methods that "
            "follow the scores of the last scored step, such as opm and ogm with the paper's options."
        )


def warn_of_model_options(config: Any, stack: ModulationStack, bundled: Mapping[str, Any]) -> None:
    """Warns of what modulations need of the model's config where that has kept another default.

    Recipes set such options by themselves; a model that was built in Python is left as it is.

    Args:
        config: the model's, of any class; one of another package has no such options.
        stack: the modulations.
        bundled: what bundles want beside them.
    """
    if not isinstance(config, ModalitiesConfig):
        return
    defaults = {field.name: field.default for field in fields(config)}
    wanted = {**bundled, **stack.needs.model_options}
    kept = {name: vars(config)[name] for name in wanted if name in defaults and vars(config)[name] == defaults[name]}
    kept = {name: value for name, value in kept.items() if value != wanted[name]}
    if kept:
        needed = {name: wanted[name] for name in kept}
        warnings.warn(
            f"{[modulation.name for modulation in stack]} are meant for a model whose config has {needed}, found the "
            f"defaults {kept}. `hf-bml train` and `compare` set this by themselves; in Python give it to the config.",
            stacklevel=3,
        )


def check_teachers(trainer: Trainer, stack: ModulationStack) -> None:
    """Raises ValueError if modulations learn from models of one modality each, and one is not named."""
    names = stack.who("trained_alone")
    named = own_arguments(trainer.args).trained_alone or {}
    if names and is_deepspeed_zero3_enabled():
        raise ValueError(
            f"{names} load models that were trained alone, which DeepSpeed's ZeRO-3 would shard. Use "
            "another ZeRO stage, DDP or FSDP2."
        )
    if names and not set(stack.modalities) <= set(named):
        raise ValueError(
            f"{names} learn from a model of each modality that was trained alone, {list(stack.modalities)}, but "
            f"trained_alone names {list(named) or 'none'}. Train them (hf-bml probe RUN --alone) and set "
            f"trained_alone: {{{stack.modalities[0]}: FOLDER, ...}}; hf-bml train does both by itself."
        )


def check_rows(trainer: PlannedTrainer, stack: ModulationStack) -> None:
    """Raises ValueError if the trainer cannot choose the order of the rows, but a modulation needs it to."""
    planning = [m.name for m in stack.planners]
    repeating = stack.who("steps_per_batch") if stack.needs.steps_per_batch > 1 else []
    names = [*planning, *repeating, *stack.who("rows")]
    if not names:
        return
    if isinstance(trainer.train_dataset, datasets.IterableDataset):
        raise ValueError(
            f"{names} need to know the rows of the training split, but it is streamed. Load it without streaming."
        )
    if (planning or repeating) and trainer.args.train_sampling_strategy not in ("random", "sequential"):
        raise ValueError(
            f"{names} choose the order of the rows, and so does train_sampling_strategy: "
            f"{trainer.args.train_sampling_strategy}. Set it to random or sequential."
        )
    window = trainer.window(trainer.args.train_batch_size)
    if repeating and trainer.train_dataset is not None and len(trainer.train_dataset) < window:
        raise ValueError(
            f"{repeating} repeat the {window} samples of an optimizer step, but the training split has only "
            f"{len(trainer.train_dataset)}. Lower per_device_train_batch_size or gradient_accumulation_steps."
        )


def check_streamed_training(args: TrainingArguments, stack: ModulationStack) -> None:
    """Raises ValueError for what needs the length of the training split, or any row of it: a stream has neither."""
    if args.max_steps <= 0:
        raise ValueError(
            "A streamed training split has no known length, so num_train_epochs has no meaning. Set max_steps, the "
            "number of optimizer steps, to a number > 0."
        )
    for name in ("eval_strategy", "save_strategy", "logging_strategy"):
        if vars(args)[name] == "epoch":
            steps = name.replace("strategy", "steps")
            raise ValueError(
                f"{name}: epoch needs a training split of known length, but it is streamed. Set {name}: steps and "
                f"{steps}."
            )
    if args.train_sampling_strategy != "random":
        raise ValueError(
            f"train_sampling_strategy: {args.train_sampling_strategy} picks rows by their number, but the training "
            "split is streamed. Leave it out."
        )
    for name in ("split_batches", "dispatch_batches"):
        if vars(args.accelerator_config)[name]:
            raise ValueError(
                f"accelerator_config: {name} has no effect on streams, of which every process reads its own part. "
                "Leave it out."
            )
    for modulation in stack:
        if modulation.held_out_fraction:
            raise ValueError(
                f"{modulation.name} holds {modulation.held_out_fraction:.0%} of the training split out, but the split "
                "is streamed. Load the data without streaming."
            )
        if options := modulation.options_in_epochs:
            raise ValueError(
                f"{modulation.name} counts in epochs ({', '.join(options)}), but a streamed training split has no "
                "known length. Use unit: steps, or 0 for the beginning; or load the data without streaming."
            )
