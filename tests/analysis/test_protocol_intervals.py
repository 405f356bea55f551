"""Intervals over folds, draws and data sets, from arithmetic; t(2) = 4.302653, t(1) = 12.706205 at 97.5 %."""

from __future__ import annotations

import math

import pytest

from hf_bml.analysis.comparison_notes import comparison_notes
from hf_bml.analysis.comparison_table import comparison_table
from hf_bml.analysis.metric_names import lower_is_better
from hf_bml.analysis.pooled import pooled_records, pooled_table
from hf_bml.analysis.records import read_records, records_of, rows_of, write_records
from hf_bml.analysis.references import best_run, control_row, difference, reference_row
from hf_bml.analysis.row import Row, row_overlap
from hf_bml.analysis.summary import paired_difference

FOLDS = {"folds": 3, "groups": True, "pool": 20, "train": 20, "test": 10}


def row(label, values, methods="", dataset="a", source="concat", recipe="", protocol=None, seeds=(0,)):
    """`values[unit]` per fold if there is a protocol with folds, else per seed; all seeds of a fold differ by 0.02."""
    runs = []
    for unit, value in enumerate(values):
        run = {
            "accuracy": value,
            "validation_accuracy": value,
            "device": "CPU",
            "torch": "2",
            "estimation_seconds": 0.0,
        }
        if protocol and "folds" in protocol:
            for index, seed in enumerate(seeds):
                shifted = {"accuracy": value + 0.02 * index, "seed": seed, "fold": unit}
                runs.append({**run, **shifted, "protocol": {**protocol, "fold": unit}})
        else:
            runs.append({**run, "seed": unit, **({"protocol": protocol} if protocol else {})})
    return Row(label, methods=methods or label, dataset=dataset, source=source, recipe=recipe, runs=runs)


def test_the_corrected_interval_of_a_hand_computed_case():
    """Differences 0.1, 0.2, 0.3: s = 0.1; 1/3 + 0.5 = 0.8333, so the half width is 4.302653 * 0.1 * 0.912871."""
    found = paired_difference([0.1, 0.2, 0.3], [0.0] * 3, overlap=0.5)
    assert found.mean == pytest.approx(0.2)
    assert found.high - 0.2 == pytest.approx(4.302653 * 0.0912871, rel=1e-6)
    plain = paired_difference([0.1, 0.2, 0.3], [0.0] * 3)
    assert plain.high - 0.2 == pytest.approx(4.302653 * 0.1 / math.sqrt(3), rel=1e-6)


def test_folds_are_what_an_interval_counts_not_seeds():
    rows = [row("none", [0.5, 0.5, 0.5], protocol=FOLDS, seeds=(0, 1))]
    rows.append(row("opm", [0.6, 0.7, 0.8], protocol=FOLDS, seeds=(0, 1)))
    assert rows[1].values("accuracy") == pytest.approx([0.61, 0.71, 0.81])
    found = difference(rows[1], rows[0], "accuracy")
    assert (found.mean, found.high - found.mean) == pytest.approx((0.2, 4.302653 * 0.0912871), rel=1e-6)
    table = comparison_table(rows, "accuracy")
    assert "| folds | seeds |" in table and "| opm    | 3     | 2     |" in table and "+20.0 [-19.3, +59.3]" in table
    text = " ".join(comparison_notes(rows, "accuracy"))
    assert "whole groups" in text and "Nadeau and Bengio" in text and "(1/n + 0.50)" in text


def test_draws_share_a_part_of_the_pool():
    draws = {"train_per_class": 2, "pool": 30, "train": 10, "test": 99}
    assert row_overlap(row("none", [0.5], protocol=draws).runs) == pytest.approx(10 / 20)
    assert row_overlap(row("none", [0.5], protocol={**draws, "train": 30}).runs) == 0  # only the seed differs
    assert row_overlap(row("none", [0.5]).runs) == 0
    text = " ".join(comparison_notes([row("none", [0.5, 0.6], protocol=draws)], "accuracy"))
    assert "10 of 30 rows" in text and "(1/n + 0.50)" in text and "share one test split" in text


@pytest.fixture
def three_sets():
    """OPM gains 0.1, 0.2 and 0.3; on the third set a second recipe has the same."""
    rows = []
    for name, gain in (("a", 0.1), ("b", 0.2), ("c", 0.3)):
        rows += [
            row("none", [0.5, 0.6], dataset=name, recipe=name),
            row("opm", [0.5 + gain, 0.6 + gain], "opm", name, recipe=name),
        ]
    return rows


def test_pooled_over_data_sets(three_sets):
    [record] = pooled_records(three_sets, ["accuracy"], lambda each: three_sets[three_sets.index(each) // 2 * 2])
    assert record["method"] == "opm" and record["accuracy"]["sets"] == 3
    half = 4.302653 * 0.1 / math.sqrt(3)
    assert [record["accuracy"][name] for name in ("mean", "low", "high")] == pytest.approx(
        [0.2, 0.2 - half, 0.2 + half], rel=1e-6
    )
    text = pooled_table(three_sets, ["accuracy", "robust/worst"], control="opm")
    assert "| opm    | +20.0 [-4.8, +44.8] (3) " in text and "| none   | -20.0 [-44.8, +4.8] (3) " in text
    assert "Pooled over 3 data sets (a, b, c)" in text
    assert pooled_table(three_sets[:2], ["accuracy"]) == ""
    assert reference_row(three_sets[3], three_sets) is three_sets[2]


def test_a_control_of_another_recipe_of_the_same_data():
    rows = [row("none", [0.5], source=source, recipe=source) for source in ("concat", "bounded")]
    rows.append(row("none", [0.5], dataset="b", source="concat", recipe="b"))
    assert control_row(rows[1], rows, "concat: none", "accuracy") is rows[0]
    assert control_row(rows[2], rows, "concat: none", "accuracy") is rows[2]


def test_choosing_by_any_metric():
    runs = [{"validation_robust/worst": value, "validation_robust/ece": value} for value in (0.2, math.nan, 0.4, 0.4)]
    assert best_run(runs, "validation_robust/worst") == 2
    assert best_run(runs, "validation_robust/ece") == 0
    assert lower_is_better("validation_loss") and not lower_is_better("validation_accuracy")


def test_records_give_the_same_tables(tmp_path, three_sets):
    searched = {"seed": 0, "setting": "default", "chosen_by": "validation_accuracy", "validation_accuracy": 0.5}
    three_sets[1].setting, three_sets[1].search = "default", [searched | {"train_seconds": 2.0}] * 2
    for index in range(3):
        write_records(records_of(three_sets[2 * index : 2 * index + 2]), tmp_path / f"{index}.jsonl")
    found = rows_of(read_records([tmp_path / f"{index}.jsonl" for index in (0, 1, 2, 1)]))
    assert found[1].search == three_sets[1].search[:1]  # equal runs count once
    three_sets[1].search = three_sets[1].search[:1]
    assert found == three_sets  # recipes of equal names are told apart by their data sets
    assert comparison_table(found, "accuracy") == comparison_table(three_sets, "accuracy")
    [only, _] = rows_of(read_records([tmp_path / "0.jsonl"]))
    assert only.recipe == ""


def test_two_recipes_of_one_name_and_data_set_are_not_mixed(tmp_path):
    for name, value in (("pool", 0.5), ("stride", math.nan)):
        write_records(records_of([row("none", [value], dataset="a", source="concat")]), tmp_path / f"{name}.jsonl")
    assert len(read_records([tmp_path / "stride.jsonl"] * 2)) == 1
    with pytest.raises(
        ValueError, match=r"stride.jsonl, line 1: .* found another one than .*pool.jsonl, line 1: .*none"
    ):
        read_records([tmp_path / "pool.jsonl", tmp_path / "stride.jsonl"])


@pytest.mark.parametrize("line", ["{", "[1]", '{"label": "none"}'])
def test_what_is_no_record(tmp_path, line):
    (tmp_path / "a.jsonl").write_text(line)
    with pytest.raises(ValueError, match=r"a.jsonl, line 1: expected"):
        read_records([tmp_path / "a.jsonl"])
