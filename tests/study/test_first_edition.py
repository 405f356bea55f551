"""A run folder that the first edition wrote, and a checkpoint of it, are read as those of this one."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hf_bml.cli import main
from hf_bml.study.finished_run import load_run, predict
from hf_bml.study.json_file import read_json

RUN = Path(__file__).parents[1] / "first_edition_run"
SECTIONS = (  # all but those on sweeps, on what the paper has, and on what is missing
    *("summary", "results", "settings", "training", "balance", "probes", "missing", "classes", "calibration"),
    *("contributions", "features", "environment"),
)


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(RUN, tmp_path / "run"))


def test_it_loads_and_predicts_what_it_did(folder):
    run = load_run(folder)
    assert [(model.step, model.final) for model in run.saved_models()] == [(20, False), (34, True)]
    predictions = predict(run.trainer(), run.dataset["test"])
    accuracy = (predictions.logits.argmax(-1) == predictions.labels).mean()
    assert accuracy == pytest.approx(read_json(RUN / "metrics.json")["test"]["accuracy"], abs=0.01)


def test_a_training_resumes_from_its_checkpoint(folder, tmp_path):
    """It was trained on another kind of CPU, so what is equal is equal but for rounding."""
    options = [
        "--output_dir",
        str(folder),
        f"--resume_from_checkpoint={folder / 'checkpoint-20'}",
        "--use_cpu=true",
        "--report_to=none",
    ]
    assert main(["train", str(folder / "config.yaml"), *options]) == 0
    metrics = read_json(folder / "metrics.json")
    assert metrics["resumed_from"] == str(folder / "checkpoint-20")
    weights, expected = load_file(folder / "model.safetensors"), load_file(RUN / "model.safetensors")
    assert weights.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(weights[name], value, atol=1e-6, rtol=1e-4, msg=name)
    before, after = (read_json(path / "trainer_state.json")["log_history"] for path in (RUN, folder))
    assert [entry["step"] for entry in before] == [entry["step"] for entry in after]
    assert [set(entry) for entry in before] == [set(entry) for entry in after]


def test_it_has_every_section_of_a_report(folder, tmp_path):
    pytest.importorskip("matplotlib")
    assert main(["report", str(folder), "--output", str(tmp_path / "report")]) == 0
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert [name for name in re.findall(r'<section id="([^"]+)"', page) if name in SECTIONS] == list(SECTIONS)
