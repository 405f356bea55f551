"""Samples of tensors -> one batch, with padding and with absent modalities."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..ground.task import SAMPLE_WEIGHT, UNLABELLED
from .transforms.base import Value


class MultimodalDataCollator:
    """List of `{modality: Tensor | dict[str, Tensor] | None, "labels": int}` -> a batch for the model.

    | sample value | batch value |
    |---|---|
    | rank 1 `(dim,)` or rank 3 `(channels, height, width)` | stacked tensor `(batch, ...)`; shapes must agree |
    | rank 2 `(time, dim)` | `{"values": (batch, time, dim), "mask": bool (batch, time)}`, zero padded |
    | rank 4 `(frames, channels, height, width)` | stacked tensor; as rank 2 when the number of frames varies |
    | dict of tensors (token ids) | dict; every key padded on its first axis to the longest sample |

    Labels become `"labels": int64 (batch,)`, -100 where a sample has none; probabilities of the classes, a vector of
    floats a sample, float32 (batch, num_labels). With `problem_type="multi_label_classification"` they become float32
    (batch, num_labels), of vectors of floats as they are, or of the class numbers (integers) of each sample's labels;
    with `"regression"` float32 (batch,) or (batch, num_labels). They may be missing from all samples (prediction).
    `sample_weight` becomes float32 (batch,), and the columns `passed_on` as in `collate_numbers`. Other columns are
    ignored.

    With `segments`, a sample is a clip cut into segments: every tensor has a row per segment and is stacked as it is,
    so all clips must agree in shape; the labels, one per segment, become int64 (batch, segments).

    An absent modality (`None`) is filled with zeros of the shape of the others, and `"modality_mask"`, bool
    (batch, modalities) in the order of `modalities`, marks what is present; the key exists only when something is
    absent. An absent sequence is one *valid* zero step (token: `pad_token_id` with attention 1), because a row whose
    mask is all False gives NaN in an attention softmax; the model discards it by `modality_mask`. When a modality is
    absent in a whole batch, the shape last seen by this collator is used. The workers of a `DataLoader` have copies of
    the collator, each of which sees its own batches only: `prime` shows it all shapes before it is copied.
    `MultimodalBalancedTrainer` does so with its training data.

    Args:
        modalities: names, in the order of the model.
        num_labels: labels must lie in [0, num_labels); `None` checks only that they are not negative.
        pad_token_id: padding of `input_ids`. Everything else, `attention_mask` included, is padded with 0.
        passed_on: other columns, of integers >= 0, such as the type of a question that the model takes, or of floats,
            such as weights of samples that a `compute_loss` takes.
        segments: whether samples are clips of segments, see above.
        problem_type: as in the model's config; default one class out of several.

    Raises:
        ValueError: an invalid sample; the message names its index in the batch.

    Example:
        >>> collator = MultimodalDataCollator(["audio", "text"], num_labels=2)
        >>> batch = collator([{"audio": torch.ones(3), "text": torch.ones(2, 4), "labels": 1},
        ...                   {"audio": None, "text": torch.ones(5, 4), "labels": 0}])
        >>> batch["text"]["values"].shape, batch["modality_mask"].tolist()
        (torch.Size([2, 5, 4]), [[True, True], [False, True]])
    """

    def __init__(
        self,
        modalities: list[str],
        num_labels: int | None = None,
        pad_token_id: int = 0,
        segments: bool = False,
        passed_on: Sequence[str] = (),
        problem_type: str | None = None,
    ):
        self.segments = segments
        self.modalities = list(modalities)
        self.num_labels = num_labels
        self.pad_token_id = pad_token_id
        self.passed_on = list(passed_on)
        self.problem_type = problem_type
        self._placeholders: dict[str, Value] = {}

    def __call__(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """Build a batch from samples."""
        modality_mask = presence(samples, self.modalities)
        batch: dict[str, Any] = {}
        for name in self.modalities:
            values = [sample[name] for sample in samples]
            try:
                batch[name] = self._collate(name, values)
            except ValueError as error:
                raise ValueError(f"modality {name!r}: {error}") from error
        if any("labels" in sample for sample in samples):
            labels = [sample.get("labels") for sample in samples]
            collate = collate_segment_labels if self.segments else COLLATE_LABELS[self.problem_type]
            batch["labels"] = collate(labels, self.num_labels)
            if self.segments:
                check_segments(samples, self.modalities, batch["labels"].shape[1])
        weighed = [SAMPLE_WEIGHT] if SAMPLE_WEIGHT not in self.passed_on else []
        for column in [*self.passed_on, *weighed]:
            if any(column in sample for sample in samples):
                try:
                    batch[column] = collate_numbers([sample.get(column) for sample in samples])
                except ValueError as error:
                    raise ValueError(f"column {column!r}: {error}") from error
        if not modality_mask.all():
            batch["modality_mask"] = modality_mask
        return batch

    def prime(self, samples: Iterable[dict[str, Any]], limit: int = 1000) -> None:
        """Learn the shapes of all modalities, for batches in which one is absent.

        Args:
            samples: A data set, of which only as many samples are read as it takes to meet every modality, mostly one.
                The random numbers that reading draws from the global torch RNG are given back.
            limit: after so many samples give up on a modality. It is an error once a batch needs its shape.

        Raises:
            ValueError: A value that cannot be collated.
        """
        unknown = [name for name in self.modalities if name not in self._placeholders]
        rows = samples if isinstance(samples, Iterable) else (samples[row] for row in range(len(samples)))
        with torch.random.fork_rng(devices=[]):
            for row, sample in enumerate(islice(rows, limit if unknown else 0)):
                for name in unknown:
                    try:
                        self._learn(name, [sample.get(name)])
                    except ValueError as error:
                        raise ValueError(f"row {row}, modality {name!r}: {error}") from error
                unknown = [name for name in unknown if name not in self._placeholders]
                if not unknown:
                    break

    def _learn(self, name: str, values: list[Value | None]) -> None:
        check_same_kind(values)
        example = next((value for value in values if value is not None), None)
        if example is not None:
            self._placeholders[name] = placeholder(example, self.pad_token_id, whole=self.segments)

    def _collate(self, name: str, values: list[Value | None]) -> Value:
        self._learn(name, values)
        if name not in self._placeholders:
            raise ValueError(
                "expected a shape from this or an earlier batch, found the modality absent in every sample so far. "
                f"Show the collator samples that have {name!r} before training, collator.prime(dataset), or drop the "
                "modality."
            )
        filled = [self._placeholders[name] if value is None else value for value in values]
        if self.segments:
            if isinstance(filled[0], dict):
                return {key: stack([value[key] for value in filled]) for key in filled[0]}
            return stack(filled)
        if isinstance(filled[0], dict):
            return {
                key: pad([value[key] for value in filled], self.pad_token_id if key == "input_ids" else 0)
                for key in filled[0]
            }
        rank = filled[0].ndim
        lengths = torch.tensor([len(value) for value in filled])
        if rank == 2 or (rank == 4 and len(lengths.unique()) > 1):
            values_padded = pad(filled)  # (batch, time, ...)
            mask = torch.arange(values_padded.shape[1]) < lengths[:, None]  # (batch, time)
            return {"values": values_padded, "mask": mask}
        return stack(filled)


def collate_present(samples: list[dict[str, Any]], modalities: list[str], pad_token_id: int = 0) -> dict[str, Any]:
    """A batch for prediction: as `MultimodalDataCollator`, but a modality that all samples lack is `None`.

    Returns:
        `{modality: batch value or None}`, and, if something is absent, "modality_mask", bool (batch, modalities).
    """
    modality_mask = presence(samples, modalities)
    present = [
        name for name, is_present in zip(modalities, modality_mask.any(dim=0).tolist(), strict=True) if is_present
    ]
    batch = MultimodalDataCollator(present, pad_token_id=pad_token_id)(samples)
    batch = {name: batch.get(name) for name in modalities}
    return batch if modality_mask.all() else {**batch, "modality_mask": modality_mask}


def presence(samples: list[dict[str, Any]], modalities: list[str]) -> Tensor:
    """Which sample has which modality: bool (batch, modalities).

    Raises:
        ValueError: no sample, a modality's column is missing, or a sample has no modality at all.
    """
    if not samples:
        raise ValueError("Expected at least one sample, found none. Check the sampler.")
    for index, sample in enumerate(samples):
        missing = [name for name in modalities if name not in sample]
        if missing:
            raise ValueError(
                f"sample {index}: expected columns {modalities}, found {list(sample)}: {missing} missing. Rename the "
                "columns, set an absent modality to None, and train with remove_unused_columns=False."
            )
        if all(sample[name] is None for name in modalities):
            raise ValueError(
                f"sample {index}: expected at least one of the modalities {modalities}, found none. Remove the sample."
            )
    return torch.tensor([[sample[name] is not None for name in modalities] for sample in samples])


def collate_sample_labels(labels: list[Any], num_labels: int | None) -> Tensor:
    """Class numbers -> int64 (batch,), -100 where there is none; float vectors -> float32 (batch, num_labels).

    Raises:
        ValueError: a label that is missing, no integer or out of range, or vectors of different lengths.
    """
    if is_float_vector(labels[0]):
        return collate_vectors(labels, num_labels)
    known = [label for label in labels if not is_unlabelled(label)]
    if len(known) == len(labels):
        return collate_labels(labels, num_labels)
    numbers = iter(collate_labels(known, num_labels).tolist() if known else [])
    return torch.tensor([UNLABELLED if is_unlabelled(label) else next(numbers) for label in labels])


def is_float_vector(label: Any) -> bool:
    """Whether a label is a list, array or tensor of floats."""
    if isinstance(label, Tensor):
        return label.ndim > 0 and label.is_floating_point()
    if isinstance(label, np.ndarray):
        return label.ndim > 0 and np.issubdtype(label.dtype, np.floating)
    return isinstance(label, (list, tuple)) and bool(label) and all(isinstance(value, float) for value in label)


def is_unlabelled(label: Any) -> bool:
    """Whether a label is the class number -100."""
    return np.ndim(label) == 0 and label is not None and not isinstance(label, str) and bool(label == UNLABELLED)


def collate_vectors(labels: list[Any], length: int | None) -> Tensor:
    """A vector of numbers a sample, of one length -> float32 (batch, length). Raises ValueError for anything else."""
    for index, label in enumerate(labels):
        if np.ndim(label) != 1 or len(label) != (len(labels[0]) if length is None else length):
            expected = f"{'as many' if length is None else length} numbers a sample"
            raise ValueError(f"sample {index}: expected {expected} as labels, found {label!r}.")
    return _finite(torch.stack([torch.as_tensor(label, dtype=torch.float32) for label in labels]))


def collate_bits(labels: list[Any], num_labels: int | None) -> Tensor:
    """Several labels a sample -> float32 (batch, num_labels).

    Args:
        labels: per sample a vector of `num_labels` floats, or a list of the class numbers (integers) that apply.
        num_labels: must be known for class numbers.

    Raises:
        ValueError: naming the sample.

    Example:
        >>> collate_bits([[0, 2], []], 3)
        tensor([[1., 0., 1.],
                [0., 0., 0.]])
    """
    if any(map(is_float_vector, labels)):
        return collate_vectors(labels, num_labels)
    rows = torch.zeros(len(labels), num_labels)
    for index, label in enumerate(labels):
        numbers = label.tolist() if isinstance(label, (Tensor, np.ndarray)) else label
        is_list = isinstance(numbers, (list, tuple))
        if (
            not is_list
            or len(set(numbers)) < len(numbers)
            or not all(type(n) is int and 0 <= n < num_labels for n in numbers)
        ):
            raise ValueError(
                f"sample {index}: expected different class numbers in [0, {num_labels}), or {num_labels} floats (0.0 "
                f"or 1.0), as labels, found {label!r}."
            )
        rows[index, list(numbers)] = 1
    return rows


def collate_values(labels: list[Any], num_labels: int | None) -> Tensor:
    """A number, or `num_labels` of them, a sample -> float32 (batch,) or (batch, num_labels). Raises ValueError for
    anything else."""
    if np.ndim(labels[0]) == 1:
        return collate_vectors(labels, num_labels)
    for index, label in enumerate(labels):
        if label is None or isinstance(label, (str, bool)) or np.ndim(label):
            raise ValueError(f"sample {index}: expected a number as label, found {label!r}.")
    return _finite(torch.tensor([float(label) for label in labels]))


def collate_labels(labels: list[Any], num_labels: int | None) -> Tensor:
    """Integer labels -> int64 (batch,). Raises ValueError for a missing, non-integer or out-of-range label."""
    upper = "num_labels" if num_labels is None else num_labels
    for index, label in enumerate(labels):
        try:
            number = operator.index(label)
            valid = number >= 0 and (num_labels is None or number < num_labels)
        except TypeError:
            valid = False
        if not valid:
            is_list = isinstance(label, (list, tuple)) or np.ndim(label) > 0
            hint = (
                "For a label per segment use segments=True (task: segment_classification)."
                if is_list
                else "Map the label column to class numbers or raise num_labels."
            )
            raise ValueError(f"sample {index}: expected an integer label in [0, {upper}), found {label!r}. {hint}")
    return torch.tensor([operator.index(label) for label in labels], dtype=torch.int64)


def collate_numbers(values: list[Any]) -> Tensor:
    """Floats -> float32 (batch,); integers >= 0 -> int64 (batch,). Raises ValueError for anything else.

    Example:
        >>> collate_numbers([0.5, torch.tensor(2.0)])
        tensor([0.5000, 2.0000])
    """
    first = values[0]
    if isinstance(first, float) or (isinstance(first, Tensor) and first.is_floating_point()):
        numbers = [math.nan if value is None else float(value) for value in values]
        return _finite(torch.tensor(numbers))
    return collate_labels(values, None)


COLLATE_LABELS = {
    None: collate_sample_labels,
    "single_label_classification": collate_sample_labels,
    "multi_label_classification": collate_bits,
    "regression": collate_values,
}


def collate_segment_labels(labels: list[Any], num_labels: int | None) -> Tensor:
    """A list of labels per sample -> int64 (batch, segments).

    Raises:
        ValueError: A label as in `collate_labels`, a sample without a list, or lists of different lengths.
    """
    rows = []
    for index, row in enumerate(labels):
        row = row.tolist() if isinstance(row, (Tensor, np.ndarray)) else row
        if not isinstance(row, list) or not row or (rows and len(row) != len(rows[0])):
            expected = f"{len(rows[0])} labels as in sample 0" if rows else "a list of labels, one per segment"
            raise ValueError(f"sample {index}: expected {expected}, found {row!r}. Label every segment of every clip.")
        try:
            rows.append(collate_sample_labels(row, num_labels))
        except ValueError as error:
            raise ValueError(f"sample {index}: {str(error).replace('sample', 'segment', 1)}") from error
    return torch.stack(rows)


def check_segments(samples: list[dict[str, Any]], modalities: list[str], segments: int) -> None:
    """Raises ValueError unless every tensor of every sample has a row per segment."""
    for index, sample in enumerate(samples):
        for name in modalities:
            value = sample[name]
            tensors = value.values() if isinstance(value, dict) else [] if value is None else [value]
            for tensor in tensors:
                if tensor.ndim < 2 or len(tensor) != segments:
                    raise ValueError(
                        f"sample {index}: modality {name!r} needs a row per segment, ({segments}, ...), as there are "
                        f"{segments} labels; found {tuple(tensor.shape)}. Cut it into segments (log_spectrogram: "
                        "segments, video: num_frames)."
                    )


def placeholder(example: Value, pad_token_id: int = 0, whole: bool = False) -> Value:
    """Stand-in for an absent value shaped like `example`; sequences and token ids have length 1 unless `whole`.

    A waveform keeps its length: convolutions do not take a single sample.
    """
    if isinstance(example, Tensor):
        return torch.zeros_like(example[:1] if example.ndim == 2 and not whole else example)
    whole = whole or "input_ids" not in example
    fill = {"input_ids": pad_token_id, "attention_mask": 1}
    return {key: torch.full_like(tensor if whole else tensor[:1], fill.get(key, 0)) for key, tensor in example.items()}


def check_same_kind(values: list[Value | None]) -> None:
    """Require tensors of one rank (1 to 4), or dicts of tensors with the same keys; `None` is skipped.

    Raises:
        ValueError: naming the first sample that differs.
    """
    expected = None
    for index, value in enumerate(values):
        if value is None:
            continue
        tensors = list(value.values()) if isinstance(value, dict) else [value]
        if not tensors or not all(isinstance(tensor, Tensor) for tensor in tensors):
            raise ValueError(
                f"sample {index}: expected a torch.Tensor, a dict of them or None, found {type(value).__name__}. "
                "Apply a MultimodalProcessor or dataset.with_format('torch')."
            )
        kind = f"keys {sorted(value)}" if isinstance(value, dict) else f"rank {value.ndim}"
        if isinstance(value, Tensor) and not 1 <= value.ndim <= 4:
            raise ValueError(f"sample {index}: expected rank 1 to 4, found {tuple(value.shape)}. Reshape the tensor.")
        if expected is not None and kind != expected:
            raise ValueError(f"sample {index}: expected {expected} as in earlier samples, found {kind}. Use one form.")
        expected = kind
        for tensor in tensors:
            if 0 in tensor.shape or tensor.ndim == 0:
                raise ValueError(
                    f"sample {index}: expected at least one element, found shape {tuple(tensor.shape)}. "
                    "Set an absent modality to None."
                )


def stack(tensors: list[Tensor]) -> Tensor:
    """Equal shapes -> (batch, ...). Raises ValueError for differing shapes, NaN or infinity."""
    for index, tensor in enumerate(tensors):
        if tensor.shape != tensors[0].shape:
            raise ValueError(
                f"sample {index}: expected shape {tuple(tensors[0].shape)} as in sample 0, found "
                f"{tuple(tensor.shape)}. Give all samples one size (duration, size) in the processor."
            )
    return _finite(torch.stack(tensors))


def pad(tensors: list[Tensor], padding_value: int = 0) -> Tensor:
    """(length_i, ...) -> (batch, longest, ...). Raises ValueError for differing trailing shapes, NaN or infinity."""
    for index, tensor in enumerate(tensors):
        if tensor.shape[1:] != tensors[0].shape[1:]:
            raise ValueError(
                f"sample {index}: expected trailing shape {tuple(tensors[0].shape[1:])} as in sample 0, found "
                f"{tuple(tensor.shape[1:])}. Only the first axis may vary."
            )
    return _finite(pad_sequence(tensors, batch_first=True, padding_value=padding_value))


def _finite(batch: Tensor) -> Tensor:
    # The sum is not finite if one element is not, and costs a fraction of testing each; a sum may also overflow.
    if batch.is_floating_point() and not torch.isfinite(batch.sum()) and not torch.isfinite(batch).all():
        index = int((~torch.isfinite(batch)).view(len(batch), -1).any(dim=1).nonzero()[0])
        raise ValueError(
            f"sample {index}: expected finite values, found NaN or infinity. "
            "Clean the data, or set the modality to None."
        )
    return batch
