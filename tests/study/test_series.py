from __future__ import annotations

from hf_bml.study.run_result import flat_result

RESULT = {
    "validation": {"accuracy": 0.6, "f1_weighted": 0.5},
    "test": {"accuracy": 0.7, "accuracy_a": 0.4},
    "final_ratios": {"a": 1.5},
    "train_seconds": 10.0,
    "resumed_from": None,
    "seed": 3,
    "environment": {"device": "CPU", "torch": "2"},
}


def test_flat_result():
    assert flat_result(RESULT) == {
        "seed": 3,
        "accuracy": 0.7,
        "accuracy_a": 0.4,
        "ratio_a": 1.5,
        "validation_accuracy": 0.6,
        "validation_f1_weighted": 0.5,
        "train_seconds": 10.0,
        "estimation_seconds": 0.0,
        "device": "CPU",
        "torch": "2",
    }


def test_epoch_time_is_the_median_after_the_first():
    flat = flat_result({**RESULT, "epoch_seconds": [9.0, 2.0, 4.0, 3.0]})
    assert flat["epoch_seconds"] == 3.0
    assert "epoch_seconds" not in flat_result({**RESULT, "epoch_seconds": [9.0]})
    assert "epoch_seconds" not in flat_result({**RESULT, "epoch_seconds": [9.0, 2.0], "resumed_from": "checkpoint-3"})


def test_estimation_is_taken_out_of_the_training_time():
    summaries = {
        "gradient_blending": {"estimation_seconds": 3.0, "weights": [1]},
        "other": {"estimation_seconds": 1.0},
    }
    flat = flat_result({**RESULT, "modulations": {**summaries, "opm": {}}})
    assert (flat["train_seconds"], flat["estimation_seconds"]) == (6.0, 4.0)


def test_what_was_left_of_a_training_is_no_training_time():
    assert "train_seconds" not in flat_result({**RESULT, "resumed_from": "runs/checkpoint-3"})
