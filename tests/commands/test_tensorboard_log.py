"""Analyses in the TensorBoard log that the training has begun."""

from __future__ import annotations

import shutil
import sys

import pytest

from hf_bml.analysis.linear_probe import ProbeSettings
from hf_bml.study.analyse import analyse_run
from hf_bml.study.missing import missing_run
from hf_bml.study.probe import probe_run


@pytest.fixture
def run(finished, tmp_path):
    """A copy of a finished run of 12 steps, 4 an epoch."""
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def begin_log(run, name="first"):
    """A log as the training leaves it."""
    writer = pytest.importorskip("torch.utils.tensorboard").SummaryWriter(str(run / "runs" / name))
    writer.add_scalar("train/loss", 1.0, 4)
    writer.close()


def scalars(run, name="first"):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = reader.EventAccumulator(str(run / "runs" / name)).Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_everything_stands_beside_the_training(run):
    begin_log(run)
    probe = probe_run(run, "validation", ProbeSettings(epochs=2))
    missing = missing_run(run, fixed=["audio"], fixed_rates=[0.1], rates=[0.125], seeds=[0])
    analysis = analyse_run(run)
    found = scalars(run)
    assert found.pop("train/loss") == [(4, 1.0)]
    steps = [entry["step"] for entry in probe["checkpoints"]]
    [final] = [entry["step"] for entry in probe["checkpoints"] if entry["final"]]
    expected = {
        f"eval/probe/accuracy_{name}": [entry["accuracy"][name] for entry in probe["checkpoints"]]
        for name in ("audio", "visual")
    }
    for name, values in expected.items():
        assert found.pop(name) == [(step, pytest.approx(value)) for step, value in zip(steps, values, strict=True)]
    single = {
        "test/missing/complete": missing["complete"],
        "test/missing/modality_mask/audio_10/visual_12.5": missing["grids"][0]["accuracy"][0],
        **{f"test/analysis/ece_{name}": value["ece"] for name, value in analysis["calibration"].items()},
        **{f"test/analysis/shapley_{name}": value for name, value in analysis["shapley"]["values"].items()},
    }
    assert found == {name: [(final, pytest.approx(value, abs=1e-6))] for name, value in single.items()}
    assert len(single) == 7


def test_a_run_without_a_log_gets_none(run):
    analyse_run(run)
    assert not (run / "runs").exists()


def test_without_tensorboard_it_says_so(run, monkeypatch):
    begin_log(run)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.warns(UserWarning, match="TensorBoard is not installed: the analysis is not added"):
        analyse_run(run)
    assert (run / "analysis_test.json").is_file()
