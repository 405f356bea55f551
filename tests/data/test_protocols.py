from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset, DatasetDict, IterableDatasetDict

from hf_bml.data.data_report import add_to_report, data_line, data_report
from hf_bml.data.protocols import draw_per_class, fold_of_rows, with_protocol
from hf_bml.data.splits import SPLITS

LABELS = np.arange(36) % 3
GROUPS = np.array([f"person {row // 6}" for row in range(36)])


def splits(**columns):
    rows = Dataset.from_dict({"row": range(36), "labels": LABELS, **columns})
    return DatasetDict(
        train=rows.select(range(18)), validation=rows.select(range(18, 24)), test=rows.select(range(24, 36))
    )


def test_a_draw_takes_as_many_of_each_class_and_all_of_a_smaller_one():
    labels = np.array([0] * 10 + [1] * 2 + [4] * 10)
    rows = draw_per_class(labels, 3, seed=0)
    assert np.bincount(labels[rows]).tolist() == [3, 2, 0, 0, 3]
    assert rows.tolist() == sorted(set(rows)) == draw_per_class(labels, 3, seed=0).tolist()
    assert rows.tolist() != draw_per_class(labels, 3, seed=1).tolist()


def test_a_group_is_never_divided_and_as_many_groups_as_folds_are_left_out_one_by_one():
    for folds in (3, 6):
        fold = fold_of_rows(LABELS, GROUPS, folds)
        assert all(len(set(fold[group == GROUPS])) == 1 for group in GROUPS)
        assert np.bincount(fold).tolist() == [36 // folds] * folds


def test_without_groups_every_fold_has_as_many_of_each_class():
    fold = fold_of_rows(LABELS, None, 4)
    assert all(np.bincount(LABELS[fold == number]).tolist() == [3, 3, 3] for number in range(4))


def test_every_row_is_tested_once():
    tested = []
    for fold in range(6):
        cut, facts = with_protocol(splits(group=GROUPS), None, 6, fold, seed=0)
        rows = {split: set(cut[split]["row"]) for split in SPLITS}
        assert len(set.union(*rows.values())) == 36 == sum(map(len, rows.values()))
        assert rows["validation"] == set(
            with_protocol(splits(group=GROUPS), None, 6, (fold + 1) % 6, 0)[0]["test"]["row"]
        )
        assert facts == {"folds": 6, "fold": fold, "groups": True, "pool": 24, "train": 24, "test": 6}
        tested += cut["test"]["row"][:]
    assert sorted(tested) == list(range(36))


def test_a_draw_leaves_validation_and_test_alone():
    data = splits()
    cut, facts = with_protocol(data, 2, None, 0, seed=3)
    assert facts == {"train_per_class": 2, "pool": 18, "train": 6, "test": 12}
    assert cut["test"]["row"][:] == data["test"]["row"][:] and set(cut["train"]["row"]) < set(range(18))
    assert with_protocol(data, None, None, 0, seed=3) == (data, {})
    assert data_line("pets", cut, 3) == (
        "pets: train 6, validation 6, test 12 rows; 3 classes; splits as the data set gives them, at most 2 training "
        "rows of a class"
    )
    both, facts = with_protocol(data, 2, 3, 1, seed=3)
    assert data_line("pets", both, 3).endswith(
        "; fold 1 of 3 for test, rows of every class held out, at most 2 training rows of a class"
    )
    assert "at most" not in data_line("pets", data, 3)
    assert facts == {"folds": 3, "fold": 1, "groups": False, "pool": 12, "train_per_class": 2, "train": 6, "test": 12}


def test_what_the_splits_lack_is_still_known():
    data = splits(group=GROUPS)
    for split in ("train", "test"):
        add_to_report(data[split], "pets", split, "missing files", [split])
    assert data_report(with_protocol(data, None, 3, 0, 0)[0]) == {"train": {"missing files": ["train", "test"]}}


def test_what_cannot_be_cut():
    with pytest.raises(ValueError, match="folds: expected at most 6, the number of groups, found 7"):
        fold_of_rows(LABELS, GROUPS, 7)
    with pytest.raises(ValueError, match="at most 12, the rows of the largest class, found 13"):
        fold_of_rows(LABELS, None, 13)
    segments = DatasetDict({split: Dataset.from_dict({"labels": [[0, 1]]}) for split in SPLITS})
    with pytest.raises(ValueError, match="train_per_class: expected one label per row, found several"):
        with_protocol(segments, 2, None, 0, 0)
    streams = IterableDatasetDict({split: rows.to_iterable_dataset() for split, rows in splits().items()})
    with pytest.raises(ValueError, match="folds: expected rows that can be counted, found a stream"):
        with_protocol(streams, None, 3, 0, 0)


def test_numbers_to_predict_are_cut_by_group_alone():
    labels, groups = np.linspace(60, 90, 12), np.repeat(list("abcd"), 3)
    fold = fold_of_rows(labels, groups, 4)
    assert len({(group, number) for group, number in zip(groups, fold, strict=True)}) == 4
    assert sorted(np.bincount(fold_of_rows(labels, None, 3)).tolist()) == [4, 4, 4]
    with pytest.raises(ValueError, match="numbers to predict"):
        with_protocol(splits(labels=[0.5] * 36), 2, None, 0, 0)
