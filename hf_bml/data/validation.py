"""What every data set of this package must look like."""

from __future__ import annotations

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, IterableDatasetDict, List, Value

from ..ground.task import UNLABELLED
from .splits import SPLITS

LABELS = "labels"
GROUP = "group"


def check_dataset_dict(dataset: DatasetDict | IterableDatasetDict, name: str) -> DatasetDict | IterableDatasetDict:
    """Check the contract between data sets and recipes, and return the data set unchanged.

    Args:
        dataset: splits train, validation and test, each with the same columns, among them `labels`: integers in
            [0, classes) if the column is a `ClassLabel`, otherwise >= 0, or -100 for none; or a fixed number of them,
            one for each segment of a clip. Several labels a sample are a list of a `ClassLabel` of any length, or of
            floats, one for each label; a number to predict is a float, or a list of them. Where rows belong together
            (of one person, of one video), a column `group` of strings, none missing, names what they belong to, so
            that the data set can be cut anew without cutting a group in two. The rows of a streamed data set are not
            looked at.
        name: shown in errors.

    Returns:
        `dataset`.

    Raises:
        ValueError: the contract is broken; the message names the split and the remedy.
    """
    if not isinstance(dataset, DatasetDict | IterableDatasetDict):
        raise ValueError(
            f"Expected data set '{name}' to be a datasets.DatasetDict, found {type(dataset).__name__}. Return "
            "DatasetDict(train=..., validation=..., test=...)."
        )
    if set(dataset) != set(SPLITS):
        raise ValueError(
            f"Expected data set '{name}' to have the splits {list(SPLITS)}, found {list(dataset)}. Rename or drop "
            "splits, and hold validation rows out of train if the release has none."
        )
    for split in SPLITS:
        if isinstance(dataset, IterableDatasetDict):
            _check_columns(dataset, split, name)
            continue
        if len(dataset[split]) == 0:
            raise ValueError(
                f"Expected rows in every split of data set '{name}', found none in '{split}'. Check the option that "
                "chooses the split."
            )
        _check_columns(dataset, split, name)
        _check_labels(dataset, split, name)
    return dataset


def _check_columns(dataset: DatasetDict | IterableDatasetDict, split: str, name: str) -> None:
    if dataset[split].features is None:
        raise ValueError(
            f"Expected split '{split}' of data set '{name}' to declare its columns, found a stream of unknown ones. "
            "Pass features=... where it is made, as in map(..., features=...)."
        )
    if LABELS not in dataset[split].column_names:
        raise ValueError(
            f"Expected a column '{LABELS}' in split '{split}' of data set '{name}', found "
            f"{dataset[split].column_names}. Rename the label column to '{LABELS}'."
        )
    if dataset[split].features != dataset["train"].features:
        raise ValueError(
            f"Expected split '{split}' of data set '{name}' to have the columns and types of 'train', "
            f"{dict(dataset['train'].features)}, found {dict(dataset[split].features)}. Build all splits with the "
            "same features."
        )


def _check_labels(dataset: DatasetDict, split: str, name: str) -> None:
    feature = dataset[split].features[LABELS]
    if isinstance(feature, List) and (feature.length > 0 or isinstance(feature.feature, ClassLabel)):
        is_ragged, feature = feature.length < 0, feature.feature
        if is_ragged:
            return  # the class numbers of several labels a sample, which the trainer checks
    kind = feature.feature if isinstance(feature, List) else feature
    if isinstance(kind, Value) and "float" in kind.dtype:
        return  # numbers, or a probability or bit a class: the model's task says which
    is_class_label = isinstance(feature, ClassLabel)
    if not is_class_label and not (isinstance(feature, Value) and "int" in feature.dtype):
        raise ValueError(
            f"Expected integer labels in split '{split}' of data set '{name}', found the feature {feature}. Cast the "
            f"column with cast_column('{LABELS}', ClassLabel(names=...))."
        )
    where = f"split '{split}' of data set '{name}'"
    upper = feature.num_classes if is_class_label else np.inf
    remedy = "Map the labels to 0, 1, ... or correct the class names."
    check_labels(dataset[split], where, upper, remedy, UNLABELLED)


def check_labels(dataset: Dataset, where: str, num_labels: float, remedy: str, unlabelled: int | None = None) -> None:
    """Checks that every row has a whole number in [0, num_labels), or as many as every other row, one per segment.

    Args:
        dataset: with a column `labels`.
        where: what the message begins with.
        num_labels: infinity if it is not known.
        remedy: what the message ends with.
        unlabelled: the number of what has no label, which is allowed; None if every row needs one.

    Raises:
        ValueError: naming the row.
    """
    try:
        labels = np.asarray(dataset.with_format(None).select_columns(LABELS)[LABELS][:])
    except ValueError as error:  # lists of different lengths
        raise ValueError(
            f"{where}: expected one label per sample, or as many in every sample as it has segments. {error}"
        ) from error
    if labels.dtype == object and (missing := sum(label is None for label in labels.ravel())):
        raise ValueError(f"{where}: every sample needs a label, found none in {missing} rows. Drop them.")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"{where}: labels must be integers in [0, {num_labels}), found {labels.dtype}. {remedy}".strip()
        )
    outside = ((labels < 0) | (labels >= num_labels)) & (labels != unlabelled)
    wrong = np.flatnonzero(outside.reshape(len(dataset), -1).any(1))
    if len(wrong):
        raise ValueError(
            f"{where}: labels must be in [0, {num_labels}), found {labels[wrong[0]]} in row {wrong[0]} ({len(wrong)} "
            f"such rows). {remedy}"
        )
