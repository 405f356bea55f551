from __future__ import annotations

import csv
import math

import pytest

from hf_bml.analysis.comparison_csv import row_records, run_records, write_csv
from hf_bml.analysis.comparison_notes import comparison_notes
from hf_bml.analysis.comparison_table import comparison_table, mean_cell
from hf_bml.analysis.metric_names import shown_metrics
from hf_bml.analysis.references import baseline_row, control_row, reference_row, relative_time
from hf_bml.analysis.row import Row


def row(label, accuracies, methods="", validation=None, seconds=None, **options):
    runs = [
        {"seed": seed, "accuracy": accuracy, "validation_accuracy": v, "estimation_seconds": 0.0, "device": "CPU"}
        for seed, (accuracy, v) in enumerate(zip(accuracies, validation or accuracies, strict=True))
    ]
    for run, time in zip(runs, seconds or [1.0] * len(runs), strict=True):
        run |= {"torch": "2", **({} if time is None else {"train_seconds": time})}
    return Row(label, methods=methods, runs=runs, **options)


def cells(table):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if "---" not in line]


def columns(table, *names):
    header, *rows = cells(table)
    return [[line[header.index(name)] for name in names] for line in rows]


def test_table_of_hand_computed_values():
    """Accuracies 0.8, 0.9 and 0.9, 0.95: differences 0.1, 0.05, half width t(1) * 0.025 = 12.7062 * 0.025 = 0.318."""
    rows = [
        row("concat", [0.8, 0.9], seconds=[2.0, 4.0]),
        row("opm", [0.9, 0.95], validation=[0.5, 0.7], seconds=[3.0, 6.0]),
    ]
    for run, ratio in zip(rows[0].runs, (2.0, 3.0), strict=True):
        run["ratio_a"] = ratio
    assert cells(comparison_table(rows, "accuracy")) == [
        ["recipe", "seeds", "validation_accuracy", "accuracy", "ratio_a", "training time (concat = 1)",
         "accuracy: difference to concat [95 % interval]"],
        ["concat", "2", "85.0 ± 7.1", "85.0 ± 7.1", "2.50 ± 0.71", "1.00", ""],
        ["opm", "2", "60.0 ± 14.1", "92.5 ± 3.5", "-", "1.50", "+7.5 [-24.3, +39.3]"],
    ]  # fmt: skip


def test_epoch_times():
    rows = [row("concat", [0.8, 0.9]), row("opm", [0.9, 0.95]), row("ogm", [0.9, 0.95])]
    for index, seconds in enumerate([1.0, 3.0]):
        rows[0].runs[index]["epoch_seconds"] = seconds
        rows[1].runs[index]["epoch_seconds"] = 1.5 * seconds
    found = columns(comparison_table(rows, "accuracy"), "epoch time (concat = 1)")
    assert found == [["1.00"], ["1.50"], ["-"]]
    assert any("Epoch times" in note for note in comparison_notes(rows, "accuracy"))
    assert row_records(rows, "accuracy")[1]["relative_epoch_seconds"] == 1.5


def test_single_runs_have_neither_spread_nor_interval():
    rows = [row("a", [0.5]), row("b", [0.75])]
    assert columns(comparison_table(rows, "accuracy"), "accuracy") == [["50.0"], ["75.0"]]
    assert cells(comparison_table(rows, "accuracy"))[-1][-1] == "+25.0"


def test_a_row_that_lacks_the_compared_metric():
    rows = [row("both", [0.5]), row("other", [0.5])]
    rows[0].runs[0] |= {"ratio_a": 2.0, "accuracy_a": 0.5}
    rows[1].runs[0] |= {"ratio_a": 1.5}
    assert comparison_table(rows, "accuracy_a").splitlines()[-1].rstrip(" |").endswith("-")
    assert cells(comparison_table(rows, "ratio_a"))[-1][-1] == "-0.50"  # ratios are no percentages
    assert mean_cell(rows[1], "accuracy_a") == "-"


MMTM = {"model": "interaction=mmtm", "plain": "none@greedy"}


def models(*extra):
    return [row("greedy", [0.9, 0.8], "greedy", **MMTM), row("none", [0.5, 0.6], "none"), *extra]


def test_baseline_is_none_on_the_same_model_if_it_is_there():
    greedy, none = rows = models()
    assert baseline_row(greedy, rows) is reference_row(greedy, rows) is none
    assert "none@greedy" in " ".join(comparison_notes(rows, "accuracy"))
    mmtm = row("none@greedy", [0.6, 0.6], "none", seconds=[2.0, 2.0], **MMTM)
    rows.append(mmtm)
    assert baseline_row(greedy, rows) is mmtm
    assert baseline_row(mmtm, rows) is none and reference_row(mmtm, rows) is none
    assert relative_time(mmtm, rows) == 2
    found = columns(
        comparison_table(rows, "accuracy"), "method", "model", "accuracy: difference to none [95 % interval]"
    )
    assert [line[:2] for line in found] == [
        ["greedy", "interaction=mmtm"],
        ["none", ""],
        ["none@greedy", MMTM["model"]],
    ]
    assert found[0][2].startswith("+25.0 [") and found[0][2].endswith("] to none@greedy")
    assert found[1][2] == "" and found[2][2].startswith("+5.0 [") and found[2][2].endswith("]")
    assert "Add the method" not in " ".join(comparison_notes(rows, "accuracy"))


def test_recipes_are_compared_within_themselves():
    rows = [
        row("none", [0.5], "none", recipe="concat"),
        row("opm", [0.6], "opm", recipe="concat", seconds=[3.0]),
        row("none", [0.7], "none", recipe="film", seconds=[2.0]),
        row("opm", [0.9], "opm", recipe="film", seconds=[3.0]),
    ]
    assert baseline_row(rows[3], rows) is rows[2]
    found = columns(comparison_table(rows, "accuracy"), "recipe", "method", "training time (none = 1)")
    assert found[1:] == [["concat", "opm", "3.00"], ["film", "none", "1.00"], ["film", "opm", "1.50"]]
    assert rows[3].title == "film: opm"
    assert control_row(rows[0], rows, "opm", "accuracy") is rows[1]


def test_control_is_chosen_by_validation_and_among_its_kind():
    rows = [
        row("none", [0.5, 0.6], "none"),
        row("mod_drop:p=0.1", [0.9, 0.9], "mod_drop", validation=[0.3, 0.4]),
        row("mod_drop:p=0.2", [0.6, 0.8], "mod_drop", validation=[0.5, 0.6]),
        row("mod_drop:p=0.2+opm", [0.7, 0.7], "mod_drop+opm", validation=[0.9, 0.9]),  # no control
        row("opm", [0.7, 1.0], "opm"),
    ]
    assert {control_row(other, rows, "mod_drop", "accuracy").label for other in rows} == {"mod_drop:p=0.2"}
    assert control_row(rows[0], rows, "mod_drop:p=0.1", "accuracy") is rows[1]
    assert control_row(rows[0], rows, "ogm", "accuracy") is None
    name = "accuracy: difference to mod_drop:p=0.2 [95 % interval]"
    found = [line[0] for line in columns(comparison_table(rows, "accuracy", "mod_drop"), name)]
    # opm: differences 0.1, 0.2 and t(1) * 0.05 = 0.635
    assert found[2] == "" and found[4] == "+15.0 [-48.5, +78.5]"
    assert found[1].startswith("+20.0 [")
    assert "mod_drop:p=0.2 has the best validation_accuracy of mod_drop, 55.0 ± 7.1." in " ".join(
        comparison_notes(rows, "accuracy", "mod_drop")
    )


def test_control_by_the_compared_metric_where_validation_has_it():
    rows = [row("a:x=1", [0.9], "a"), row("a:x=2", [0.1], "a")]
    for other, value in zip(rows, (0.2, 0.3), strict=True):
        other.runs[0] |= {"f1_weighted": 0.0, "validation_f1_weighted": value}
    assert control_row(rows[0], rows, "a", "f1_weighted") is rows[1]
    assert control_row(rows[0], rows, "a", "accuracy") is rows[0]


def test_control_by_the_lowest_loss():
    rows = [row("none", [0.5], "none"), row("a:x=1", [0.5], "a"), row("a:x=2", [0.5], "a")]
    for other, value in zip(rows, (0.1, 2.5, 0.3), strict=True):
        other.runs[0] |= {"loss": value, "validation_loss": value}
    assert control_row(rows[0], rows, "a", "loss") is rows[2]
    notes = comparison_notes(rows, "loss", "a")
    assert "Less loss is better: a difference below 0 is a gain." in notes
    assert "Control: a:x=2 has the best validation_loss of a, 0.30." in notes
    assert "Less" not in " ".join(comparison_notes(rows, "accuracy", "a"))


def test_estimation_has_a_column_if_there_is_any():
    rows = [row("none", [0.5], "none"), row("gradient_blending", [0.5], "gradient_blending")]
    assert "estimation" not in comparison_table(rows, "accuracy")
    rows[1].runs[0]["estimation_seconds"] = 2.5
    assert columns(comparison_table(rows, "accuracy"), "estimation, seconds") == [["0.00"], ["2.50"]]


def test_times_that_were_not_measured():
    rows = [row("none", [0.5, 0.6], "none", seconds=[2.0, None]), row("opm", [0.5, 0.6], "opm", seconds=[None, None])]
    assert [line[0] for line in columns(comparison_table(rows, "accuracy"), "training time (none = 1)")] == [
        "1.00",
        "-",
    ]


def test_notes_name_seeds_and_machines():
    rows = [row("none", [0.5, 0.6], "none"), row("opm", [0.5, 0.6], "opm")]
    assert "(0, 1)" in comparison_notes(rows, "accuracy")[0]
    assert "machines" not in " ".join(comparison_notes(rows, "accuracy"))
    rows[1].runs[0]["device"] = "GPU"
    assert "CPU, torch 2; GPU, torch 2" in comparison_notes(rows, "accuracy")[-1]


def test_shown_metrics():
    rows = [row("a", [0.5]), row("b", [0.5])]
    rows[0].runs[0] |= {"mean_average_precision": 0.5, "mean_average_precision_classes": 3.0, "loss": 1.0}
    rows[1].runs[0] |= {"f1_binary": 0.5, "accuracy_a": 0.5, "ratio_a": 1.0}
    names = ["validation_accuracy", "accuracy", "mean_average_precision", "f1_binary", "accuracy_a", "ratio_a"]
    assert shown_metrics(rows) == names


def test_records_are_unscaled_numbers(tmp_path):
    rows = [
        row("none", [0.5, 0.7], "none", seconds=[2.0, 2.0]),
        row("opm", [0.6, 0.9], "opm", seconds=[3.0, 3.0]),
    ]
    none, opm = row_records(rows, "accuracy", "opm")
    assert none["accuracy_mean"] == pytest.approx(0.6) and none["accuracy_std"] == pytest.approx(math.sqrt(0.02))
    assert (opm["seeds"], opm["relative_train_seconds"], opm["baseline"], opm["control"]) == (2, 1.5, "none", "opm")
    assert opm["accuracy_minus_baseline"] == pytest.approx(0.15)
    assert opm["accuracy_minus_baseline_low"] == pytest.approx(0.15 - 12.7062 * 0.05, abs=1e-5)
    assert none["accuracy_minus_control"] == pytest.approx(-0.15)
    assert "seed_mean" not in opm and "device_mean" not in opm
    write_csv([none, opm], tmp_path / "rows.csv")
    with open(tmp_path / "rows.csv", newline="") as file:
        first, second = csv.DictReader(file)
    assert first["accuracy_minus_baseline"] == "" and float(second["accuracy_mean"]) == 0.75
    write_csv(run_records(rows), tmp_path / "runs.csv")
    with open(tmp_path / "runs.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["method"], line["seed"], line["accuracy"]) for line in lines] == [
        ("none", "0", "0.5"), ("none", "1", "0.7"), ("opm", "0", "0.6"), ("opm", "1", "0.9")
    ]  # fmt: skip
