from __future__ import annotations

import json

import numpy as np
import pytest

from hf_bml.cli import main
from hf_bml.study.analyse import analyse_run
from hf_bml.study.finished_run import evaluate


def test_everything_fits_together(finished, capsys):
    found = analyse_run("run", "test")
    assert found == json.loads((finished / "analysis_test.json").read_text())
    metrics = evaluate(finished, "test")
    counts = np.array(found["counts"])
    assert counts.sum() == found["samples"] == found["predictions"] == 40
    assert found["classes"] == ["LABEL_0", "LABEL_1", "LABEL_2"]
    for name, metric in (("joint", "accuracy"), ("audio", "accuracy_audio"), ("visual", "accuracy_visual")):
        assert np.dot(found["per_class"][name], counts) / 40 == pytest.approx(metrics[metric])
        assert sum(b["count"] for b in found["calibration"][name]["bins"]) == 40
    confusion = np.array(found["confusion"])
    assert confusion.sum(axis=1).tolist() == counts.tolist()
    assert np.trace(confusion) / 40 == pytest.approx(metrics["accuracy"])
    coalitions, values = found["shapley"]["coalitions"], found["shapley"]["values"]
    assert list(coalitions) == ["", "audio", "visual", "audio+visual"]
    assert coalitions["audio+visual"] == pytest.approx(metrics["accuracy"])
    assert coalitions[""] in [pytest.approx(count / 40) for count in counts]  # always the same class
    assert sum(values.values()) == pytest.approx(coalitions["audio+visual"] - coalitions[""])
    gains = coalitions["audio"] - coalitions[""], coalitions["audio+visual"] - coalitions["visual"]
    assert values["audio"] == pytest.approx(sum(gains) / 2)
    assert set(found["tsne"]) == {"audio", "visual", "joint"}
    assert all(len(points) == 40 for points in found["tsne"].values())
    labels = [label for _, _, label in found["tsne"]["visual"]]
    assert np.bincount(labels).tolist() == counts.tolist()

    assert main(["analyse", "run", "--split", "validation"]) == 0
    printed = capsys.readouterr().out
    assert "validation split, 20 predictions" in printed and "Shapley" in printed
    assert json.loads((finished / "analysis_validation.json").read_text())["samples"] == 20


def test_samples_without_a_modality_do_not_count_for_it(own):
    """Row 1 of 4, of class 1, lacks a; both rows of class 0 have it."""
    assert main(["train", "own.yaml", "--output_dir", "run"]) == 0
    found = analyse_run("run")
    assert sum(b["count"] for b in found["calibration"]["a"]["bins"]) == 3
    assert sum(b["count"] for b in found["calibration"]["b"]["bins"]) == 4
    assert found["per_class"]["a"][1] in (0.0, 1.0)
    assert set(found["tsne"]) == {"b", "joint"}  # three rows are too few


def test_a_class_without_samples_is_null(own):
    assert main(["train", "own.yaml", "--output_dir", "run"]) == 0
    config = own.read_text() + "dataset_options: {label: 0}\n"
    own.with_name("zeros.yaml").write_text(config)
    text = own.with_name("my_rows.py").read_text().replace('"labels": [0, 1, 0, label]', '"labels": [0, 0, 0, label]')
    own.with_name("rows_of_one_class.py").write_text(text)
    saved = (own.parent / "run" / "config.yaml").read_text()
    options = "dataset_options:\n  label: 0\n"
    (own.parent / "run" / "config.yaml").write_text(saved.replace("my_rows:load", "rows_of_one_class:load") + options)
    found = analyse_run("run")
    assert found["counts"] == [4, 0] and found["per_class"]["joint"][1] is None
    assert main(["analyse", "run"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["nowhere"], "config.yaml"), (["run", "--split", "valid"], "Did you mean 'validation'"), ([], "run_dir")],
)
def test_bad_input_is_one_line(finished, capsys, arguments, message):
    assert main(["analyse", *arguments]) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("hf-bml analyse: ") and message in line
