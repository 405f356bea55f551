from __future__ import annotations

import subprocess
import sys

import pyarrow as pa
import pytest
from datasets import Features, Value

from hf_bml.data.splits import cut_table, held_out_groups, with_held_out

GROUPS = ["a"] * 4 + ["b"] * 3 + ["c"] * 2 + ["d"]  # SHA-1 order of the names: d 3c36, c 84a5, a 86f7, b e9d7


@pytest.mark.parametrize(
    ("fraction", "expected"),
    [(0.1, {"d"}), (0.11, {"d", "c"}), (0.3, {"d", "c"}), (0.31, {"d", "c", "a"})],
)
def test_takes_whole_groups_in_sha1_order_until_the_fraction_is_reached(fraction, expected):
    assert held_out_groups(GROUPS, fraction) == expected


def test_is_independent_of_row_order_and_hash_seed():
    code = "from hf_bml.data.splits import held_out_groups; print(sorted(held_out_groups(list('gfedcbaabc'), 0.4)))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONHASHSEED": "1", "PYTHONPATH": ":".join(sys.path)},
        text=True,
        capture_output=True,
        check=True,
    )
    assert done.stdout == f"{sorted(held_out_groups(sorted('gfedcbaabc'), 0.4))}\n"


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 0.9])
def test_rejects_fractions_that_leave_nothing(fraction):
    with pytest.raises(ValueError, match="fraction"):
        held_out_groups(GROUPS, fraction)


def test_cut_table_keeps_order_and_leaves_out_rows_without_split():
    features = Features({"labels": Value("int64")})
    table = pa.table({"extra": list("abcde"), "labels": [0, 1, 2, 3, 4]})
    result = cut_table(table, ["test", "train", None, "train", "validation"], features)
    assert {split: rows["labels"][:] for split, rows in result.items()} == {
        "train": [1, 3],
        "validation": [4],
        "test": [0],
    }
    assert result["train"].features == features


def test_cut_table_rejects_unknown_splits():
    with pytest.raises(ValueError, match="'valid'"):
        cut_table(pa.table({"labels": [0]}), ["valid"], Features({"labels": Value("int64")}))


def test_with_held_out_moves_whole_groups_of_train_only():
    # SHA-1 order of the training groups: c, a, b; c alone has a quarter of the rows.
    row_splits = ["train", "train", "test", None, "train", "train"]
    moved = with_held_out(row_splits, ["a", "b", "c", "c", "c", "b"], fraction=0.25)
    assert moved == ["train", "train", "test", None, "validation", "train"]
    moved = with_held_out(moved, ["a", "b", "c", "c", "c", "b"], "test", fraction=0.3)
    assert moved == ["test", "train", "test", None, "validation", "train"]
