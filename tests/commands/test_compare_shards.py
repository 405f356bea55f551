from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from recipe_parts import QUIET, VECTORS

from hf_bml import MultimodalBalancedTrainer
from hf_bml.cli import main

TRAINING = (
    """
max_steps: 2
per_device_train_batch_size: 2
optim: sgd
eval_strategy: "no"
save_strategy: steps
save_steps: 1
"""
    + QUIET
)
COMPARE = ["compare", "tiny.yaml", "--modulations", "none", "opm"]
VARYING = ("train_seconds", "epoch_seconds", "date")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    (tmp_path / "tiny.yaml").write_text(VECTORS + TRAINING)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def records(path):
    """The lines of a file, without times."""
    found = [json.loads(line) for line in path.read_text().splitlines()]
    for record in found:
        record["run"] = {name: value for name, value in record["run"].items() if name not in VARYING}
    return found


def test_two_processes_give_the_table_of_one(folder, capsys):
    command = [*COMPARE, "--seeds", "0", "1", "--search", "opm.q_base=0.3", "--output_dir"]
    other = subprocess.Popen(
        [sys.executable, "-m", "hf_bml.commands.compare", *command[1:], "shards", "--shard", "1/2"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert main([*command, "alone"]) == 0
    capsys.readouterr()
    assert main([*command, "shards", "--shard", "2/2"]) == 0
    outputs = [capsys.readouterr().out, other.communicate()[0]]
    assert other.returncode == 0
    assert records(folder / "shards/comparison.jsonl") == records(folder / "alone/comparison.jsonl")
    texts = [(folder / name / "comparison.md").read_text() for name in ("shards", "alone")]
    notes = [text.split("\n\n")[1:] for text in texts]
    assert notes[0] == notes[1] and texts[0] in "".join(outputs)
    finished = list(folder.glob("alone/*/seed-*/metrics.json"))
    assert sum(output.count(": training\n") for output in outputs) == len(finished) == 5
    assert (folder / "shards/comparison.png").is_file() and not list(folder.glob("shards/**/.claim-*"))


def test_an_interrupted_run_is_resumed_by_another_shard(folder, monkeypatch, capsys):
    step = MultimodalBalancedTrainer.training_step

    def second_fails(self, *args, **kwargs):
        if self.state.global_step == 1:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(MultimodalBalancedTrainer, "training_step", second_fails)
        main([*COMPARE, "--output_dir", "runs", "--shard", "1/3"])
    assert [path.name for path in folder.glob("runs/*/*/.claim-*")] == [".claim-1.json"]
    assert main([*COMPARE, "--output_dir", "runs", "--shard", "3/3"]) == 0
    [metrics] = folder.glob("runs/*/*/metrics.json")
    assert json.loads(metrics.read_text())["resumed_from"].endswith("checkpoint-1")
    assert "1 of 2 runs are not finished" in (said := capsys.readouterr().out) and ": 2 of 3." in said
    assert not (folder / "runs/comparison.md").exists() and len(records(folder / "runs/comparison.jsonl")) == 1
    assert main([*COMPARE, "--output_dir", "runs", "--shard", "2/3"]) == 0
    assert len(records(folder / "runs/comparison.jsonl")) == 2 and (folder / "runs/comparison.md").is_file()


def test_parts_are_shared_by_shards_and_measures_are_part_of_a_run(folder):
    command = ["compare", "tiny.yaml", "--modulations", "ensemble", "unimodal_init", "--output_dir", "runs"]
    assert main([*command, "--shard", "1/2"]) == 0
    parts = {path: path.stat().st_mtime_ns for path in folder.glob("runs/none-*/*/metrics.json")}
    assert main([*command, "--shard", "2/2"]) == 0
    assert len(parts) >= 2 and parts == {path: path.stat().st_mtime_ns for path in parts}
    assert (folder / "runs/comparison.md").is_file()
    (folder / "runs/comparison.md").unlink()
    measured = ["--robustness", "--corruptions", "audio.feature_noise"]
    assert main([*command, *measured, "--shard", "1/2"]) == 0
    assert not (folder / "runs/comparison.md").exists()
    assert main([*command, *measured, "--shard", "2/2"]) == 0
    assert "robust/worst" in (folder / "runs/comparison.md").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shard", "3/2"], "--shard must be INDEX/COUNT"),
        (["--shard", "1/2", "--claim_timeout", "0"], "--claim_timeout must be above 0 seconds, found 0"),
    ],
)
def test_bad_shards(folder, capsys, options, message):
    assert main([*COMPARE, "--output_dir", "runs", *options]) == 2
    assert message in capsys.readouterr().err and not (folder / "runs").exists()
