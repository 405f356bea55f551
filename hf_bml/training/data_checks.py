"""What the trainer checks and prepares in its data before the first step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from typing import Any, Protocol, runtime_checkable

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
import transformers

from ..data.validation import check_labels
from ..ground.language_model import LanguageModeling
from ..ground.task import CLASSIFICATION, UNLABELLED, Task
from ..processing.collator import COLLATE_LABELS
from ..processing.raw_columns import numeric_rank


@runtime_checkable
class PrimedCollator(Protocol):
    """A collator that fills in what a sample lacks, such as [`MultimodalDataCollator`]."""

    def prime(self, dataset: Any) -> None:
        """Learns the shapes from the rows of a data set."""


def check_collator(collator: Any, modalities: Sequence[str]) -> None:
    """Raises ValueError if a collator has the model's modalities in another order: the columns of its `modality_mask`
    would be those of other modalities."""
    order = getattr(collator, "modalities", None)  # any callable may collate
    if order is not None and set(order) == set(modalities) and list(order) != list(modalities):
        raise ValueError(
            f"The data_collator has the modalities in the order {list(order)}, the model has {list(modalities)}. "
            "Build it with list(model.encoders): the columns of modality_mask follow that order."
        )


def prime_collator(collator: Any, train_dataset: Any, eval_dataset: Any) -> None:
    """Gives a collator the shapes of absent modalities to fill in, before the workers of a `DataLoader` copy it.

    A streamed training split is read last, because it may fill a buffer first. Unsized data other than a stream
    of `datasets` is left alone: it may be readable only once.
    """
    if not isinstance(collator, PrimedCollator):
        return
    order = (train_dataset, eval_dataset)
    for dataset in reversed(order) if isinstance(train_dataset, datasets.IterableDataset) else order:
        is_readable = isinstance(dataset, datasets.IterableDataset | Sized)
        if is_readable and not isinstance(dataset, dict):
            collator.prime(dataset)


def check_dataset(
    dataset: Any,
    split: str,
    columns: Sequence[str],
    num_labels: int,
    task: Task = CLASSIFICATION,
    readers: Sequence[str] = (),
) -> None:
    """Checks that a dataset is not empty; of a `datasets.Dataset` also the input columns (one per modality, and for
    training no empty one), labels as the task has them, finite numbers.

    Args:
        dataset: or a dict of them.
        split: for the messages.
        columns: that it must have, beside `labels`.
        num_labels: of the model.
        task: of the model.
        readers: modulations that read class numbers, which no row may lack then.

    Raises:
        ValueError: naming the split, what was expected and what was found.
    """
    if isinstance(dataset, dict):
        for name, part in dataset.items():
            check_dataset(part, f"{split}[{name!r}]", columns, num_labels, task, readers)
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
    check_task_labels(dataset, split, num_labels, task, readers)
    for column in columns:
        may_be_empty = dataset.data.column(column).null_count >= len(dataset)  # of all rows, shown or not
        if split == "train_dataset" and may_be_empty and np.all(arrow_column(dataset, column).is_null()):
            raise ValueError(
                f"{split}: every row lacks {column!r} (None), so its encoder would learn nothing. Check the files of "
                "the modality and what on_error left out, or train without it."
            )
        check_finite(dataset, split, column)


def check_collatable(dataset: Any, split: str, columns: Sequence[str], collator: Any) -> None:
    """Raises ValueError if transformers' default collator is to make batches of what is not numbers, such as audio.

    Args:
        dataset: or a dict of them; what is no `datasets.Dataset`, or yields other values than it holds, is not
            checked.
        split: for the message.
        columns: that the model needs.
        collator: of the trainer.
    """
    for part in dataset.values() if isinstance(dataset, dict) else (dataset,):
        is_plain = isinstance(part, datasets.Dataset) and part.format["type"] is None
        if collator is not transformers.default_data_collator or not is_plain:
            continue
        types = {column: part.features[column] for column in columns}
        raw = [name for name, kind in types.items() if numeric_rank(kind) is None and kind != datasets.Value("null")]
        if raw:
            raise ValueError(
                f"{split}: expected numbers in the columns of the modalities, found {type(types[raw[0]]).__name__} in "
                f"{raw[0]!r}. Process it, MultimodalProcessor({{{raw[0]!r}: {{...}}, ...}}).apply(dataset), and give "
                f"the trainer data_collator=MultimodalDataCollator({list(columns)}), or a collator of your own."
            )


def check_answers(lengths: np.ndarray, ids: np.ndarray, where: str, task: LanguageModeling, vocabulary: int) -> None:
    """Raises ValueError, naming the row, for labels of a language model that are neither tokens nor -100, and for a
    sample with no labelled token, or more than `answer_tokens`.

    Args:
        lengths: labels of each row.
        ids: those of all rows, one after the other.
        where: what the message begins with.
        task: the model's.
        vocabulary: how many tokens there are.
    """
    rows = np.repeat(np.arange(len(lengths)), lengths)
    wrong = np.flatnonzero((ids != UNLABELLED) & ((ids < 0) | (ids >= vocabulary)))
    if len(wrong):
        raise ValueError(
            f"{where}: labels must be tokens in [0, {vocabulary}), or {UNLABELLED} where none is asked for, found "
            f"{ids[wrong[0]]} in row {rows[wrong[0]]}. Use the tokenizer of the model."
        )
    counts = np.bincount(rows[ids != UNLABELLED], minlength=len(lengths))
    if not counts.all():
        raise ValueError(
            f"{where}: every label of row {counts.argmin()} is {UNLABELLED}: no token is asked for. Check that "
            "max_length does not cut the answer off, or leave such rows out."
        )
    if task.longest is not None and counts.max(initial=0) > task.longest:
        raise ValueError(
            f"{where}: row {counts.argmax()} has {counts.max()} labelled tokens, but the model was wrapped with "
            f"answer_tokens={task.longest}. Raise it, or cut the answers."
        )


def check_task_labels(
    dataset: datasets.Dataset, split: str, num_labels: int, task: Task, readers: Sequence[str]
) -> None:
    """Raises ValueError, naming the row, unless labels are as the task has them; see `check_dataset`, of a language
    model `check_answers`."""
    if isinstance(task, LanguageModeling):
        labels = flat_tokens(arrow_column(dataset, "labels"))
        if labels is not None:  # else the collator makes them
            check_answers(*labels, split, task, num_labels)
        return
    feature = dataset.features["labels"]
    is_soft = isinstance(feature, datasets.List | datasets.LargeList) and "float" in str(feature.feature)
    if task.problem_type == CLASSIFICATION.problem_type and not is_soft:
        ignored = not readers and task.counts(torch.zeros(1, dtype=torch.int64)) is not None
        remedy = "The number of classes is the model's config.num_labels."
        if readers:
            remedy += f" {readers} read class numbers, so that every row needs one."
        check_labels(dataset, split, num_labels, remedy, UNLABELLED if ignored else None)
        return
    rows = dataset.with_format(None).select_columns("labels")["labels"][:]
    if any(row is None for row in rows):
        raise ValueError(f"{split}: every sample needs a label, found none in {rows.count(None)} rows. Drop them.")
    try:
        labels = COLLATE_LABELS[task.problem_type](rows, num_labels)
    except ValueError as error:
        what = f"{split}, labels of {task.problem_type} with num_labels {num_labels}"
        raise ValueError(f"{what}: {str(error).replace('sample', 'row', 1)}") from error
    if error := label_error(labels, num_labels, task, readers):
        raise ValueError(f"{split}: {error}")


NO_CLASS_NUMBERS = (
    "{names} read the labels as class numbers, one a sample, found {found}. Leave these methods out, or give each "
    "training sample one class."
)


def label_error(
    labels: torch.Tensor, num_labels: int, task: Task = CLASSIFICATION, readers: Sequence[str] = ()
) -> str | None:
    """What is wrong with the labels of a batch, None if nothing is; arguments as of `check_dataset`."""
    is_single = task.problem_type == CLASSIFICATION.problem_type
    if is_single and labels.dtype != torch.int64 and (labels.dim() < 2 or not labels.is_floating_point()):
        return (
            f"labels must be integers in [0, {num_labels}) (torch.int64), found {labels.dtype}. Convert them to class "
            "numbers."
        )
    fits = task.fits(labels, num_labels)
    if fits is None:
        kind = f"{labels.dtype} of shape {tuple(labels.shape)}"
        return f"labels must be {task.expected(num_labels)}, found {kind}. The model's task is {task.problem_type}."
    if not fits.all():
        row = int((~fits).nonzero()[0])
        wrong = labels[row]
        if is_single and not labels.is_floating_point():
            wrong = wrong.flatten()[((wrong < 0) | (wrong >= num_labels)).flatten()][0]
            return (
                f"labels must be in [0, {num_labels}) (config.num_labels), found {int(wrong)}. Leave such samples "
                "out, number the classes from 0, or mark them with -100."
            )
        return f"labels must be {task.expected(num_labels)}, found {wrong.tolist()} in row {row}."
    if readers and (labels.is_floating_point() or bool((labels == UNLABELLED).any())):
        found = "probabilities of the classes" if labels.is_floating_point() else f"{UNLABELLED}, no label"
        return NO_CLASS_NUMBERS.format(names=list(readers), found=found)
    return None


def arrow_column(dataset: datasets.Dataset, column: str) -> pa.ChunkedArray:
    """A column of the rows that a dataset shows; its table may hold others."""
    return dataset.with_format("arrow").select_columns(column)[:].column(0)


def check_tokens(dataset: Any, split: str, limits: Mapping[str, tuple[int, int | None]]) -> None:
    """Raises ValueError, naming the row, if a `datasets.Dataset` holds more tokens than an encoder takes, or one that
    it does not know.

    Args:
        dataset: or a dict of them; other data is not checked.
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

    They are lists, `input_ids` in a dict, or as a processor has stored them (see `tensor_storage`).
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


def checked_batch(
    rows: Sequence[Any],
    collator: Any,
    num_labels: int,
    description: str,
    task: Task = CLASSIFICATION,
    readers: Sequence[str] = (),
) -> dict[str, Any]:
    """A collator's batch.

    Raises:
        ValueError: its labels are not what the task has; see `check_dataset`.
    """
    texts = [row["labels"] for row in rows if isinstance(row, Mapping) and isinstance(row.get("labels"), str)]
    if texts:
        raise ValueError(f"{description} data: labels must be integers in [0, {num_labels}), found {texts[0]!r}.")
    batch = collator(rows)
    labels = batch.get("labels") if isinstance(batch, Mapping) else None
    if not isinstance(labels, torch.Tensor):
        return batch
    if isinstance(task, LanguageModeling) and task.fits(labels, num_labels) is not None:
        lengths = np.full(len(labels), labels.shape[1])
        check_answers(lengths, labels.flatten().numpy(), f"{description} data", task, num_labels)
    elif error := label_error(labels, num_labels, task, readers):
        raise ValueError(f"{description} data: {error}")
    return batch


def check_finite(dataset: datasets.Dataset, split: str, column: str) -> None:
    """Raises ValueError, naming the row, if a column of numbers or of lists of numbers holds NaN or infinity.

    Other columns (bytes, images, text) are checked by the processors.
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
