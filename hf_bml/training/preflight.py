"""What the trainer refuses, and prepares, before the first step, so that no run fails at step 500."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable, Mapping, Sequence, Sized
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import nn
from transformers import Trainer, TrainingArguments

from ..models import BalancedModel
from ..models.wrappers import check_bare, check_saved_whole, is_adapted, without_adapter
from ..modulation import Modulation


def check_model(model: nn.Module) -> None:
    """Checks that the model has what balancing needs, encoders by modality, and that what is saved of it loads again.

    Raises:
        TypeError: no encoders.
        ValueError: it is compiled, distributed, or adapted by PEFT in a way that loses weights (see
            `models.wrappers`).
    """
    check_bare(model)
    if is_adapted(model) and isinstance(without_adapter(model), BalancedModel):
        raise ValueError(
            "get_peft_model(balance(model, ...)) would save an adapter that only fits the wrapper. Adapt the model "
            "itself: balance(get_peft_model(model, config), ...), with the same paths."
        )
    if not isinstance(getattr(model, "encoders", None), (nn.ModuleDict, Mapping)):
        raise TypeError(
            "MultimodalBalancedTrainer needs a model with `encoders`, a mapping from modality to encoder, such as "
            f"MultimodalForClassification; found {type(model).__name__}. Wrap a model of another kind: "
            "balance(model, modalities={'vision': 'path.of.its.encoder', ...})."
        )
    check_saved_whole(getattr(model, "wrapped_model", model))


def check_output(output: Any, loss: Any, training: bool) -> None:
    """Checks what a model has returned for a batch with labels.

    Args:
        output: the model's.
        loss: what the Trainer takes for the loss: its field `loss`, or the first item of anything but a mapping.
        training: whether the scores of the modalities are needed as well.

    Raises:
        ValueError: the loss is not a scalar (of a bare tensor or tuple of logits it is the first of these), or there
            are no unimodal logits.
    """
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
        found = f"shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else type(loss).__name__
        raise ValueError(
            f"expected a scalar loss from the model, found {found} in a {type(output).__name__}. Return a mapping or "
            "ModelOutput with `loss`, or let balance(model, ...) take the cross-entropy of its logits."
        )
    if training and (not isinstance(output, Mapping) or "unimodal_logits" not in output):
        raise ValueError(
            "compute_loss must return (loss, output) in training, output being what model(**inputs) returned, a "
            f"mapping or ModelOutput with `unimodal_logits`; found {type(output).__name__}. Let balance(model, ...) "
            "score the modalities of a model that returns something else."
        )


def check_collator(collator: Any, modalities: Sequence[str]) -> None:
    """Raises ValueError if a collator has the model's modalities in another order: the columns of its `modality_mask`
    would be those of other modalities."""
    order = getattr(collator, "modalities", None)
    if order is not None and set(order) == set(modalities) and list(order) != list(modalities):
        raise ValueError(
            f"The data_collator has the modalities in the order {list(order)}, the model has {list(modalities)}. "
            "Build it with list(model.encoders): the columns of modality_mask follow that order."
        )


def prime_collator(collator: Any, train_dataset: Any, eval_dataset: Any) -> None:
    """Shows a collator that fills absent modalities their shapes, before the workers of a `DataLoader` copy it.

    A streamed training split is read last, because it may fill a buffer first. Data without length that is no stream
    of `datasets` is left alone: it may be readable only once.
    """
    if not hasattr(collator, "prime"):
        return
    order = (train_dataset, eval_dataset)
    for dataset in reversed(order) if isinstance(train_dataset, datasets.IterableDataset) else order:
        is_readable = isinstance(dataset, datasets.IterableDataset) or hasattr(dataset, "__len__")
        if is_readable and not isinstance(dataset, dict):
            collator.prime(dataset)


def check_dataset(dataset: Any, split: str, columns: Sequence[str], num_labels: int) -> None:
    """Checks that a dataset is not empty; of a `datasets.Dataset` also the input columns (one per modality, and for
    training no empty one), integer labels in [0, num_labels), finite numbers.

    Raises:
        ValueError: naming the split, what was expected and what was found.
    """
    if isinstance(dataset, dict):
        for name, part in dataset.items():
            check_dataset(part, f"{split}[{name!r}]", columns, num_labels)
        return
    if isinstance(dataset, Sized) and len(dataset) == 0:
        raise ValueError(f"{split} is empty: expected at least one sample.")
    if not isinstance(dataset, datasets.Dataset):
        return
    missing = [column for column in (*columns, "labels") if column not in dataset.column_names]
    if missing:
        raise ValueError(
            f"{split} lacks the columns {missing}: expected one column per modality and `labels`, "
            f"found {dataset.column_names}. Rename the columns or the model's modalities."
        )
    try:
        labels = np.asarray(dataset.with_format(None).select_columns("labels")["labels"][:])
    except ValueError as error:  # lists of different lengths
        raise ValueError(
            f"{split}: expected one label per sample, or as many in every sample as it has segments. {error}"
        ) from error
    if labels.dtype == object and any(label is None for label in labels):
        raise ValueError(f"{split}: every sample needs a label, found none in some rows. Drop these rows.")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"{split}: labels must be integers in [0, {num_labels}), found {labels.dtype}.")
    wrong = np.flatnonzero(
        (labels.reshape(len(dataset), -1) < 0).any(1) | (labels.reshape(len(dataset), -1) >= num_labels).any(1)
    )
    if len(wrong):
        raise ValueError(
            f"{split}: labels must be in [0, {num_labels}) (config.num_labels), found {labels[wrong[0]]} in row "
            f"{wrong[0]} ({len(wrong)} such rows)."
        )
    for column in columns:
        may_be_empty = dataset.data.column(column).null_count >= len(dataset)  # of all rows, shown or not
        if split == "train_dataset" and may_be_empty and np.all(arrow_column(dataset, column).is_null()):
            raise ValueError(
                f"{split}: every row lacks {column!r} (None), so its encoder would learn nothing. Check the files of "
                "the modality and what on_error left out, or train without it."
            )
        check_finite(dataset, split, column)


def arrow_column(dataset: datasets.Dataset, column: str) -> pa.ChunkedArray:
    """A column of the rows that a dataset shows; its table may hold others."""
    return dataset.with_format("arrow").select_columns(column)[:].column(0)


def check_tokens(dataset: Any, split: str, limits: Mapping[str, tuple[int, int | None]]) -> None:
    """Raises ValueError, naming the row, if a `datasets.Dataset` holds more tokens than an encoder takes, or one that
    it does not know.

    Args:
        dataset: or a dict of them; others are left alone.
        split: for the message.
        limits: see `token_limits`. The ids lie in the modality's column or, of a single such encoder, in `input_ids`.
    """
    if isinstance(dataset, dict):
        for name, part in dataset.items():
            check_tokens(part, f"{split}[{name!r}]", limits)
    if not isinstance(dataset, datasets.Dataset):
        return
    for modality, (vocabulary, longest) in limits.items():
        column = modality if modality in dataset.column_names or len(limits) > 1 else "input_ids"
        tokens = flat_tokens(arrow_column(dataset, column)) if column in dataset.column_names else None
        if tokens is None:
            continue
        lengths, ids = tokens
        encoder = f"the encoder of {modality!r}"
        if longest is not None and lengths.max(initial=0) > longest:
            row = lengths.argmax()
            raise ValueError(
                f"{split}: row {row} of {column!r} has {lengths[row]} tokens, but {encoder} takes at most {longest}. "
                f"Cut the texts, max_length: {longest}."
            )
        unknown = np.flatnonzero((ids < 0) | (ids >= vocabulary))
        if len(unknown):
            row = np.repeat(np.arange(len(lengths)), lengths)[unknown[0]]
            raise ValueError(
                f"{split}: row {row} of {column!r} has the token id {ids[unknown[0]]}, but {encoder} knows the ids "
                f"from 0 to {vocabulary - 1}. Use the tokenizer that belongs to it, or enlarge its vocabulary."
            )


def flat_tokens(values: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray] | None:
    """How many token ids every row has, and all ids in a row; None if a column holds something else.

    They are lists, `input_ids` in a dict, or such as a processor has stored (see `tensor_storage`).
    """
    kind = values.type
    if pa.types.is_struct(kind) and kind.get_field_index("input_ids") >= 0:
        return flat_tokens(pc.struct_field(values, "input_ids"))
    if pa.types.is_struct(kind) and kind.get_field_index("dtype") >= 0:
        stored = values.to_pylist()
        if any(value and len(value["shape"]) != 1 for value in stored):
            return None
        rows = [np.frombuffer(value["data"], value["dtype"]) if value else np.empty(0, int) for value in stored]
        lengths, ids = np.array([len(row) for row in rows]), np.concatenate([np.empty(0, int), *rows])
    elif isinstance(kind, (pa.ListType, pa.LargeListType)) and pa.types.is_integer(kind.value_type):
        lengths = pc.list_value_length(values).fill_null(0).to_numpy()
        ids = pc.list_flatten(values).to_numpy()
    else:
        return None
    return (lengths, ids) if np.issubdtype(ids.dtype, np.integer) else None


def checked_batch(rows: Sequence[Any], collator: Any, num_labels: int, description: str) -> dict[str, Any]:
    """A collator's batch.

    Raises:
        ValueError: its labels are not integers in [0, num_labels).
    """
    texts = [row["labels"] for row in rows if isinstance(row, Mapping) and isinstance(row.get("labels"), str)]
    if texts:
        raise ValueError(f"{description} data: labels must be integers in [0, {num_labels}), found {texts[0]!r}.")
    batch = collator(rows)
    labels = batch.get("labels") if isinstance(batch, Mapping) else None
    if not isinstance(labels, torch.Tensor):
        return batch
    if labels.dtype != torch.int64:
        raise ValueError(
            f"{description} data: labels must be integers in [0, {num_labels}) (torch.int64), found {labels.dtype}. "
            "Convert them to class numbers."
        )
    wrong = labels[(labels < 0) | (labels >= num_labels)]
    if len(wrong):
        raise ValueError(
            f"{description} data: labels must be in [0, {num_labels}) (config.num_labels), found {int(wrong[0])}. "
            "Leave such samples out, or number the classes from 0."
        )
    return batch


def check_finite(dataset: datasets.Dataset, split: str, column: str) -> None:
    """Raises ValueError, naming the row, if a column of numbers or of lists of numbers holds NaN or infinity.

    Other columns (bytes, images, text) are the processors' business.
    """
    if _all_finite(dataset.data.column(column)):
        return
    rows = dataset.with_format("arrow").select_columns(column)  # the table may hold rows that the view leaves out
    bad = next((row for row in range(len(rows)) if not _all_finite(rows[row : row + 1].column(0))), None)
    if bad is not None:
        raise ValueError(
            f"{split}: column {column!r} holds a value that is not finite in row {bad}. Expected finite numbers: "
            "repair or drop the row, or set it to None to mark the modality as absent."
        )


def _all_finite(values: pa.ChunkedArray) -> bool:
    if isinstance(values.type, pa.ExtensionType):  # Array2D to Array5D
        values = pa.chunked_array([chunk.storage for chunk in values.chunks], values.type.storage_type)
    while isinstance(values.type, (pa.ListType, pa.LargeListType, pa.FixedSizeListType)):
        values = pc.list_flatten(values)
    if not pa.types.is_floating(values.type):
        return True
    return pc.all(pc.is_finite(values)).as_py() is not False


def check_streamed_training(args: TrainingArguments, modulations: Iterable[Modulation]) -> None:
    """Raises ValueError for what needs the length of the training split, or any row of it: a stream has neither."""
    if args.max_steps <= 0:
        raise ValueError(
            "A streamed training split has no known length, so num_train_epochs has no meaning. Set max_steps, the "
            "number of optimizer steps, to a number > 0."
        )
    for name in ("eval_strategy", "save_strategy", "logging_strategy"):
        if getattr(args, name) == "epoch":
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
        if getattr(args.accelerator_config, name, None):
            raise ValueError(
                f"accelerator_config: {name} has no effect on streams, of which every process reads its own part. "
                "Leave it out."
            )
    for modulation in modulations:
        if modulation.held_out_fraction:
            raise ValueError(
                f"{modulation.name} holds {modulation.held_out_fraction:.0%} of the training split out, but the split "
                "is streamed. Load the data without streaming."
            )
        if options := modulation.options_in_epochs:
            raise ValueError(
                f"{modulation.name} counts in epochs ({', '.join(options)}), but a streamed training split has no "
                "known length. Use unit: steps, or 0 for the beginning."
            )


def check_parallelism(trainer: Trainer, modulations: Iterable[Modulation]) -> None:
    """Raises ValueError where the way of running cannot do what the modulations need."""
    if trainer.args.n_gpu > 1:
        raise ValueError(
            f"One process with {trainer.args.n_gpu} GPUs would use nn.DataParallel, whose replicas lose the "
            "discrepancy scores. Launch with `accelerate launch` or `torchrun`, or show one GPU "
            "(CUDA_VISIBLE_DEVICES=0)."
        )
    modulations = list(modulations)
    whole = [m.name for m in modulations if m.needs_whole_model]
    if whole and (trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled):
        raise ValueError(
            f"{whole} need the whole model on every process, but DeepSpeed and FSDP shard it. Use DDP, that is, plain "
            "`accelerate launch` or `torchrun`."
        )
    on_gradients = [m.name for m in modulations if m.changes_gradients]
    if not on_gradients:
        return
    if trainer.is_deepspeed_enabled:
        raise ValueError(
            f"{on_gradients} change gradients between backward and step, but DeepSpeed steps inside backward. "
            "Use ogm with placement: graph (without noise), DDP or FSDP2, or opm, which acts on the features."
        )
    if trainer.is_fsdp_enabled and getattr(trainer.accelerator.state.fsdp_plugin, "fsdp_version", 1) == 1:
        raise ValueError(
            f"{on_gradients} change gradients per parameter, which FSDP1 flattens. Use FSDP2 "
            "(fsdp_config: {version: 2}), DDP, ogm with placement: graph (without noise), or opm, which acts on the "
            "features."
        )


def check_given_optimizer(trainer: Trainer, modulations: Iterable[Modulation]) -> None:
    """Raises ValueError if `optimizers` brings what arguments or modulations need the trainer to make."""
    args = trainer.args
    if trainer.optimizer is not None and getattr(args, "lr_multipliers", None):
        raise ValueError(
            "lr_multipliers do not reach the optimizer that `optimizers` brings. Set the rates in its parameter "
            "groups, or pass optimizer_cls_and_kwargs=(class, keywords), or set optim."
        )
    if trainer.lr_scheduler is not None and getattr(args, "lr_drop_at", None):
        raise ValueError(
            "lr_drop_at does not reach the schedule that `optimizers` brings. Leave one of the two out: "
            "optimizers=(optimizer, None)."
        )
    copying = [m.name for m in modulations if m.held_out_fraction]
    if copying and (trainer.optimizer is not None or trainer.lr_scheduler is not None):
        raise ValueError(
            f"{copying} train copies of the model, for which the trainer must make an optimizer, but it was given "
            "`optimizers` of its own. Pass optimizer_cls_and_kwargs=(class, keywords), or set optim and "
            "lr_scheduler_type."
        )


def check_sync_batch_norm(device: torch.device) -> None:
    """Raises ValueError where torch has no SyncBatchNorm."""
    if device.type == "cpu":
        raise ValueError(
            "sync_batch_norm: true needs an accelerator: torch.nn.SyncBatchNorm does not run on the CPU. Set it to "
            "false and let each process use the statistics of its own micro-batch, or train in one process."
        )


def warn_if_not_compiled(trainer: Trainer) -> None:
    """Warns that a model that cannot be compiled trains at the speed of one that is not."""
    if trainer.args.torch_compile and not getattr(trainer.model, "can_be_compiled", True):
        warnings.warn(
            f"torch_compile has no effect on {type(trainer.model).__name__}: it runs uncompiled, with the same "
            "results. Leave torch_compile out.",
            stacklevel=3,
        )


def check_own_loss(trainer: Trainer) -> None:
    """Raises ValueError if a loss computed outside the model would replace more than the cross-entropy of its logits:
    the training of its own classifiers, or the `segment_loss` that its config names."""
    if trainer.label_smoother is None and trainer.compute_loss_func is None:
        return
    if getattr(trainer.model, "auxiliary_heads", None):
        raise ValueError(
            "The model has auxiliary heads, which its own loss trains, but label_smoothing_factor or "
            "compute_loss_func replaces that loss. Leave these out, or set auxiliary_loss_weight: null and "
            "unimodal_prediction: auto in the model's config."
        )
    segment_loss = getattr(trainer.model.config, "segment_loss", "cross_entropy")
    if segment_loss != "cross_entropy":
        raise ValueError(
            f"The model's config has segment_loss: {segment_loss}, but label_smoothing_factor or compute_loss_func "
            "replaces that loss. Leave these out, or set segment_loss: cross_entropy."
        )


def check_encoders_share_nothing(model: nn.Module, modulations: Iterable[Modulation]) -> None:
    """Raises ValueError if two modalities share an encoder parameter, but a modulation treats them apart."""
    names = [m.name for m in modulations if m.needs_separate_encoders]
    if not names:
        return
    owned = {name: {id(p) for p in encoder.parameters()} for name, encoder in model.encoders.items()}
    for first, second in itertools.combinations(owned, 2):
        if owned[first] & owned[second]:
            raise ValueError(
                f"The encoders of {first!r} and {second!r} share parameters, so {names} cannot modulate one modality "
                "alone. Use separate encoders, or OPM, which acts on the features."
            )
