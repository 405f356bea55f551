from __future__ import annotations

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

from hf_bml.data.validation import check_dataset_dict

FEATURES = Features({"text": Value("string"), "labels": ClassLabel(names=["no", "yes"])})


def rows(labels, features=FEATURES):
    columns = {name: ["word"] * len(labels) for name in features if name != "labels"}
    if "labels" in features:
        columns["labels"] = labels
    return Dataset.from_dict(columns, features=features)


def dataset(**changed):
    return DatasetDict({"train": rows([0, 1]), "validation": rows([1]), "test": rows([0])} | changed)


def test_returns_a_sound_dataset_unchanged():
    sound = dataset()
    assert check_dataset_dict(sound, "mine") is sound


@pytest.mark.parametrize(
    ("kind", "labels"),
    [
        (Value("int32"), [0, 7]),
        (Value("float32"), [71.5, 80.0]),
        (List(Value("float32")), [[0.0, 1.0], [1.0, 1.0]]),
        (List(ClassLabel(names=["loud", "near"])), [[0, 1], []]),
    ],
)
def test_accepts_plain_integers_numbers_and_several_labels(kind, labels):
    features = Features({"text": Value("string"), "labels": kind})
    splits = {split: rows(labels, features) for split in ("train", "validation", "test")}
    check_dataset_dict(DatasetDict(splits), "mine")


@pytest.mark.parametrize(
    ("broken", "parts"),
    [
        (rows([0]), ["DatasetDict", "found Dataset"]),
        (DatasetDict({"train": rows([0]), "test": rows([0])}), ["validation", "found ['train', 'test']"]),
        (dataset(extra=rows([0])), ["extra"]),
        (dataset(validation=rows([])), ["none in 'validation'"]),
        (dataset(test=rows([0], Features({"text": Value("string")}))), ["column 'labels'", "'test'"]),
        (
            dataset(test=rows([0], Features({"labels": FEATURES["labels"]}))),
            ["'test'", "columns and types of 'train'"],
        ),
        (
            dataset(validation=rows([0], Features({"text": Value("string"), "labels": ClassLabel(num_classes=3)}))),
            ["'validation'", "columns and types of 'train'"],
        ),
        (dataset(test=rows([0, None])), ["'test'", "found none in 1 rows"]),
        (dataset(test=rows([0, 1, -1])), ["[0, 2)", "'test'", "found -1", "row 2"]),
        (
            DatasetDict(
                {
                    split: rows(["yes"], Features({"text": Value("string"), "labels": Value("string")}))
                    for split in ("train", "validation", "test")
                }
            ),
            ["integer labels", "'train'", "ClassLabel"],
        ),
    ],
)
def test_broken_contract_is_named(broken, parts):
    with pytest.raises(ValueError) as error:
        check_dataset_dict(broken, "mine")
    for part in ["'mine'", *parts]:
        assert part in str(error.value)


def test_label_above_the_classes_is_named():
    table = rows([0, 1]).with_format("arrow")[:]
    table = table.set_column(1, "labels", [[0, 2]])
    train = Dataset(table.cast(FEATURES.arrow_schema))
    assert train.features == FEATURES
    with pytest.raises(ValueError, match=r"split 'train'.*\[0, 2\), found 2 in row 1"):
        check_dataset_dict(dataset(train=train), "mine")


def test_a_label_for_each_segment():
    features = Features({"labels": List(FEATURES["labels"], length=2)})
    splits = {split: Dataset.from_dict({"labels": [[0, 1], [1, 1]]}, features) for split in ("train", "validation")}
    for last, message in (([1, 1], None), ([1, 2], r"found \[1 2\] in row 1")):
        table = Dataset.from_dict({"labels": [[0, 1], last]}).with_format("arrow")[:].cast(features.arrow_schema)
        sound = DatasetDict({**splits, "test": Dataset(table)})
        if message is None:
            assert check_dataset_dict(sound, "mine") is sound
        else:
            with pytest.raises(ValueError, match=message):
                check_dataset_dict(sound, "mine")
