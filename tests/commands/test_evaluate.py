"""`hf-bml evaluate` on other data, on a checkpoint, and on a model from the Hub."""

from __future__ import annotations

import json

import pytest
import yaml
from datasets import Dataset
from recipe_parts import QUIET

from hf_bml.cli import main
from hf_bml.data import load_multimodal_dataset

OPTIONS = {"path": "clips.parquet", "modalities": {"a": "left", "b": "right"}, "label": "mood", "test_fraction": 0.3}
RECIPE = """
modalities:
  a: {type: mlp, input_size: 2, hidden_sizes: [3]}
  b: {type: mlp, input_size: 1, hidden_sizes: [3]}
processors: {a: {type: features, standardize: true}}
learning_rate: 1e-1
max_steps: 2
save_steps: 1
"""


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory):
    """A folder with `clips.parquet`, a run on it in `run`, and `other.parquet`: the run's test rows, backwards."""
    folder = tmp_path_factory.mktemp("evaluate")
    rows = {"left": [[float(row), row % 3] for row in range(30)], "right": [[float(row % 2)] for row in range(30)]}
    rows["mood"] = [["sad", "glad", "calm"][row % 3] for row in range(30)]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Dataset.from_dict(rows).to_parquet("clips.parquet")
        data = yaml.safe_dump({"dataset": "from_columns", "dataset_options": OPTIONS})
        (folder / "mine.yaml").write_text(data + RECIPE + QUIET)
        assert main(["train", "mine.yaml", "--output_dir", "run"]) == 0
        test = load_multimodal_dataset("from_columns", **OPTIONS)["test"]
    names = test.features["labels"].names
    test = test.map(lambda row: {"mood": names[row["labels"]]}).rename_columns({"a": "left", "b": "right"})
    test.select(range(len(test))[::-1]).remove_columns("labels").to_parquet(folder / "other.parquet")
    return folder


def read(path):
    return json.loads(path.read_text())


def files(folder):
    return {path.name for path in folder.iterdir()}


def test_another_file_stands_beside_the_runs_own_result(trained_run, monkeypatch, capsys):
    monkeypatch.chdir(trained_run)
    before, own = files(trained_run / "run"), read(trained_run / "run" / "metrics.json")
    assert main(["evaluate", "run", "--dataset_options.data_files", "other.parquet"]) == 0
    printed = capsys.readouterr().out
    [written] = files(trained_run / "run") - before
    assert written.startswith("metrics_test_other-") and f"written to run/{written}" in printed
    found = read(trained_run / "run" / written)
    assert found["metrics"] == pytest.approx(own["test"], abs=1e-6)  # all rows, classes in the model's order
    assert found["dataset_options"]["data_files"] == "other.parquet" and "path" not in found["dataset_options"]
    accuracy = f"{own['test']['accuracy']:.4f}"
    assert ["accuracy", accuracy, accuracy] in [line.replace("|", " ").split() for line in printed.splitlines()]
    assert read(trained_run / "run" / "metrics.json") == own


def test_a_checkpoint_is_evaluated_in_its_run(trained_run, monkeypatch):
    monkeypatch.chdir(trained_run)
    inside = files(trained_run / "run" / "checkpoint-2")
    assert main(["evaluate", "run/checkpoint-2"]) == 0
    found = read(trained_run / "run" / "metrics_test_checkpoint-2.json")
    assert found["metrics"] == pytest.approx(read(trained_run / "run" / "metrics.json")["test"], abs=1e-6)
    assert main(["evaluate", "run/checkpoint-1", "--split", "validation"]) == 0
    assert read(trained_run / "run" / "metrics_validation_checkpoint-1.json")["model"] == "run/checkpoint-1"
    assert files(trained_run / "run" / "checkpoint-2") == inside
    assert main(["evaluate", "run", "--split", "validation", "--per_device_eval_batch_size", "2"]) == 0
    own = read(trained_run / "run" / "metrics.json")["validation"]
    assert read(trained_run / "run" / "metrics_validation.json") == pytest.approx(own, abs=1e-6)


def test_a_model_from_the_hub_needs_data(trained_run, monkeypatch, own_hub, capsys):
    monkeypatch.chdir(trained_run)
    model = ("model.safetensors", "config.json", "processor_config.json", "processor_state.safetensors")
    own_hub.add("model", "user/moods", {name: (trained_run / "run" / name).read_bytes() for name in model})
    columns = ["--dataset_options.modalities={a: left, b: right}", "--use_cpu", "true"]
    data = ["--dataset_options.path", "other.parquet", "--dataset_options.label", "mood", *columns]
    assert main(["evaluate", "user/moods", *data]) == 0, capsys.readouterr().err
    [written] = (trained_run / "runs" / "user--moods").glob("metrics_test_other-*.json")
    own = read(trained_run / "run" / "metrics.json")["test"]
    assert read(written)["metrics"] == pytest.approx(own, abs=1e-6)
    assert main(["evaluate", "user/moods"]) == 2
    assert "does not say what it was trained on" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["run", "--learning_rate", "1"], "expected options of the data, or use_cpu"),
        (["run", "--dataset_options.data_files", "none.parquet"], "none.parquet"),
        (["run", "--dataset_options.pth", "other.parquet"], "Did you mean 'path'"),
        (["run", "--dataset_options.classes", "[sad, glad, calm]"], r"the model's classes ['calm', 'glad', 'sad']"),
        (["run", "--dataset_options.path", "other.parquet", "--dataset_options.label", "moods"], "'moods'"),
        (["nowhere/model", "--dataset_options.path", "other.parquet"], "nowhere/model"),
    ],
)
def test_bad_input_is_one_line(trained_run, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(trained_run)
    before = files(trained_run / "run")
    assert main(["evaluate", *arguments]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("hf-bml evaluate: ") and message in error
    assert files(trained_run / "run") == before
