"""Training arguments that assume a model with one main input or one embedding, and what works instead."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from typing import Any

import datasets
from transformers import PreTrainedModel, Trainer
from transformers.debug_utils import DebugOption

from .training_args import CHECKPOINTING


def check_options(trainer: Trainer) -> None:
    """Raises ValueError for the first training argument, or option of the model's config, that cannot be followed."""
    for reason in refusals(trainer):
        raise ValueError(reason)


def refusals(trainer: Trainer) -> Iterator[str]:
    """Why each of them cannot be followed, and what works instead."""
    args, model = trainer.args, trainer.model
    has_main_input = trainer.face.main_input_name in trainer.face.input_columns
    if "labels" not in trainer.label_names:
        yield f"label_names must hold 'labels', found {trainer.label_names}. Set label_names: ['labels']."
    if "inputs" in args.include_for_metrics and not has_main_input:
        yield (
            "include_for_metrics: inputs needs a model with one main input, found the modalities "
            f"{list(trainer.modalities)}. Let compute_metrics read the evaluation split itself: the predictions come "
            "in its order."
        )
    if args.include_num_input_tokens_seen != "no" and not has_main_input:
        yield (
            f"include_num_input_tokens_seen: {args.include_num_input_tokens_seen} needs a model with one main input, "
            f"found the modalities {list(trainer.modalities)}. Leave it out, and count tokens in a data_collator."
        )
    if args.neftune_noise_alpha is not None and not has_embeddings(model):
        yield (
            "neftune_noise_alpha needs one embedding for the whole model. Register "
            "transformers.integrations.neftune.neftune_post_forward_hook on the text encoder's embedding, and set "
            "its neftune_noise_alpha."
        )
    if any(vars(args).get(name) for name in CHECKPOINTING):
        if reason := trainer.face.why_no_checkpointing():
            yield reason
        if any((vars(args).get(f"{name}_kwargs") or {}).get("use_reentrant") for name in CHECKPOINTING):
            yield (
                "activation_checkpointing_kwargs: use_reentrant: true does not allow the gradients of single losses, "
                "and leaves encoders without gradient whose input has none. Leave it out."
            )
    if args.use_liger_kernel:
        yield (
            "use_liger_kernel patches language models by their type, and this is a model of several encoders. Leave "
            "it out, and patch an encoder yourself before the trainer is built."
        )
    if DebugOption.UNDERFLOW_OVERFLOW in args.debug:
        yield "debug: underflow_overflow cannot read the boolean masks. Use torch.autograd.set_detect_anomaly(True)."
    parallel = {} if args.parallelism_config is None else vars(args.parallelism_config)
    sizes = {name: parallel[name] for name in ("tp_size", "cp_size", "sp_size") if name in parallel}
    if any(size > 1 for size in sizes.values()):
        yield f"parallelism_config {sizes} splits one sequence or layer over processes. Use DDP, FSDP2 or DeepSpeed."
    config, solved = trainer.face.config, trainer.face.task.problem_type
    problem_type = None if config is None else config.problem_type
    if problem_type not in (None, solved):
        yield (
            f"The model's config has problem_type: {problem_type}, but the model's task is {solved}. Set it before "
            f"the model is built; of a model of your own, set its attribute `task` (hf_bml.ground.task), or {solved}."
        )
    if args.train_sampling_strategy in ("group_by_length", "batch_rebalance"):
        yield from length_refusals(trainer)


def has_embeddings(model: Any) -> bool:
    """Whether a model has token embeddings that represent the whole model."""
    return isinstance(model, PreTrainedModel) and model.get_input_embeddings() is not None


def length_refusals(trainer: Trainer) -> Iterator[str]:
    """Why the lengths of the rows are not known; as in Trainer, those of the evaluation split are needed too."""
    args, column = trainer.args, trainer.args.length_column_name
    strategy = f"train_sampling_strategy: {args.train_sampling_strategy}"
    splits = {"train_dataset": trainer.train_dataset}
    if args.train_sampling_strategy == "group_by_length":
        parts = trainer.eval_dataset if isinstance(trainer.eval_dataset, dict) else {"": trainer.eval_dataset}
        splits |= {f"eval_dataset{f'[{name!r}]' if name else ''}": part for name, part in parts.items()}
    for split, dataset in splits.items():
        known = isinstance(dataset, datasets.Dataset) and column in dataset.column_names
        if not known and isinstance(dataset, Sized):
            yield (
                f"{strategy} needs a datasets.Dataset with a column {column!r} (length_column_name), a number per "
                f"row, and {split} has none. Add it: dataset.add_column({column!r}, lengths)."
            )
    if args.remove_unused_columns:
        yield f"{strategy} needs the column {column!r}, which remove_unused_columns: true removes. Set it to false."
