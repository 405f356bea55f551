from __future__ import annotations

import pytest

from hf_bml.analysis.references import best_row
from hf_bml.analysis.row import Row
from hf_bml.analysis.sensitivity import (
    Sweep,
    sensitivity_notes,
    sensitivity_records,
    sensitivity_runs,
    sensitivity_table,
    short_names,
)

Q, LAM = "modulations.opm.q_base", "modulations.opm.lam"


def row(label, validation, test):
    runs = [
        {"seed": seed, "validation_accuracy": v, "accuracy": t}
        for seed, (v, t) in enumerate(zip(validation, test, strict=True))
    ]
    return Row(label, runs=runs)


def sweep():
    """The best setting on validation is the worst on test."""
    return Sweep(
        {Q: [0.3, 0.5]},
        [{Q: 0.3}, {Q: 0.5}],
        [row("q_base=0.3", [0.5, 0.7], [0.9, 0.9]), row("q_base=0.5", [0.8, 0.6], [0.5, 0.7])],
        baseline=row("none", [0.9, 0.9], [0.4, 0.4]),
    )


def test_validation_chooses():
    found = sweep()
    assert best_row(found.rows, "accuracy").label == "q_base=0.5"
    table = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in sensitivity_table(found, "accuracy").split("\n")
    ]
    assert table[0] == ["q_base", "seeds", "validation_accuracy", "accuracy", "chosen"]
    assert table[2:] == [
        ["none", "2", "90.0 ± 0.0", "40.0 ± 0.0", ""],
        ["0.3", "2", "60.0 ± 14.1", "90.0 ± 0.0", ""],
        ["0.5", "2", "70.0 ± 14.1", "60.0 ± 14.1", "best validation"],
    ]
    notes = " ".join(sensitivity_notes(found, "accuracy"))
    assert "q_base=0.5, 70.0 ± 14.1; its test accuracy is 60.0 ± 14.1" in notes
    assert "2 of 2 settings, the best included, are within one standard deviation" in notes


def test_the_lowest_loss_is_the_best():
    rows = [Row("good"), Row("near"), Row("bad")]
    found = Sweep({Q: [0.3, 0.5, 0.7]}, [{Q: q} for q in (0.3, 0.5, 0.7)], rows)
    for own, losses in zip(found.rows, ([0.2, 0.4], [0.4, 0.4], [2.4, 2.6]), strict=True):
        own.runs = [{"seed": seed, "validation_loss": v, "loss": 1.0} for seed, v in enumerate(losses)]
    assert best_row(found.rows, "loss").label == best_row(found.rows[::-1], "loss").label == "good"
    notes = " ".join(sensitivity_notes(found, "loss"))
    assert "Best validation_loss (the lowest): good, 0.30 ± 0.14; its test loss is 1.00" in notes
    assert "2 of 3 settings, the best included, are within one standard deviation" in notes


def test_one_seed_says_that_noise_is_not_known():
    found = Sweep({Q: [0.3]}, [{Q: 0.3}], [row("q_base=0.3", [0.5], [0.9])])
    assert "One seed" in " ".join(sensitivity_notes(found, "accuracy"))


def test_records():
    records = sensitivity_records(sweep())
    assert [record[Q] for record in records] == ["", 0.3, 0.5]
    assert records[2]["accuracy_mean"] == pytest.approx(0.6)
    runs = sensitivity_runs(sweep())
    assert len(runs) == 6 and runs[-1] == {Q: 0.5, "seed": 1, "validation_accuracy": 0.6, "accuracy": 0.7}


def test_short_names_tell_options_apart():
    assert short_names([Q, LAM]) == {Q: "q_base", LAM: "lam"}
    assert short_names(["learning_rate", "learning_rate.x"])["learning_rate"] == "learning_rate"


def test_a_setting_is_found():
    found = Sweep({Q: [1], LAM: [2, 3]}, [{Q: 1, LAM: 2}, {Q: 1, LAM: 3}], [Row("first"), Row("second")])
    assert found.row(**{LAM: 3, Q: 1}).label == "second"
