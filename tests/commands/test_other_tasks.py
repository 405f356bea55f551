"""Several labels and numbers from the command line: trained, compared, shown; what looks at classes refuses them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from recipe_parts import QUIET

from hf_bml import MultimodalForClassification
from hf_bml.cli import main

MODULE = """
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

KINDS = {"bits": List(ClassLabel(names=["wind", "rain", "sun"])), "numbers": Value("float32")}
LABELS = {"bits": [[0], [1, 2], [], [0, 2]], "numbers": [70.0, 74.0, 71.0, 90.0]}

def load(kind):
    lists = List(Value("float32"))
    rows = {"a": [[0.0, 1.0], None, [1.0, 0.0], [0.5, 0.5]] * 3, "b": [[0.0], [1.0], [2.0], [3.0]] * 3}
    features = Features({"a": lists, "b": lists, "labels": KINDS[kind]})
    data = Dataset.from_dict({**rows, "labels": LABELS[kind] * 3}, features=features)
    return DatasetDict(train=data, validation=data, test=data)
"""
RECIPE = (
    """
task: {task}
dataset: my_labels:load
dataset_options: {{kind: {kind}}}
modalities:
  a: {{type: mlp, input_size: 2, hidden_sizes: [4]}}
  b: {{type: mlp, input_size: 1, hidden_sizes: [4]}}
processors: {{a: {{type: features, input_size: 2}}, b: {{type: features, input_size: 1}}}}
max_steps: 4
per_device_train_batch_size: 4
eval_strategy: steps
eval_steps: 2
save_strategy: steps
save_steps: 2
load_best_model_at_end: true
metric_for_best_model: {metric}
logging_steps: 1
"""
    + QUIET
)
TASKS = {
    "multi_label_classification": ("bits", "f1_micro", {"accuracy", "accuracy_a", "hamming_loss"}, "accuracy"),
    "regression": ("numbers", "mae", {"mae", "correlation_b", "rmse"}, "mae"),
}


@pytest.fixture
def recipe(tmp_path, monkeypatch, request):
    """A recipe of a task, in the current directory."""
    (tmp_path / "my_labels.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    kind, metric, _, _ = TASKS[request.param]
    (tmp_path / "mine.yaml").write_text(RECIPE.format(task=request.param, kind=kind, metric=metric))
    return request.param


@pytest.mark.parametrize("recipe", TASKS, indirect=True)
def test_a_task_from_training_to_report(recipe, capsys):
    kind, _, metrics, compared = TASKS[recipe]
    assert (
        main(["compare", "mine.yaml", "--modulations", "none", "opm", "--seeds", "0", "1", "--output_dir=runs"]) == 0
    )
    table = capsys.readouterr().out
    assert f"validation_{compared}" in table and f"{compared}: difference to none" in table
    run = next(path.parent for path in Path("runs").rglob("metrics.json") if "opm" in str(path))
    result = json.loads((run / "metrics.json").read_text())
    assert metrics <= result["test"].keys() and set(result["final_ratios"]) == {"a", "b"}
    model = MultimodalForClassification.from_pretrained(run)
    assert model.config.problem_type == recipe
    assert (model.config.label_mean is not None) == (recipe == "regression")
    assert main(["evaluate", str(run), "--split", "validation"]) == 0
    assert compared in capsys.readouterr().out
    assert json.loads((run / "metrics_validation.json").read_text()) == pytest.approx(result["validation"])
    shutil.copytree(run, "alone", ignore=shutil.ignore_patterns("config.yaml", "metrics*"))  # which say what it is
    assert main(["evaluate", "alone", "--dataset", "my_labels:load", f"--dataset_options.kind={kind}"]) == 0
    found = json.loads(next(Path("alone").glob("metrics_test_*-*.json")).read_text())["metrics"]
    assert found == pytest.approx(result["test"])
    capsys.readouterr()
    assert main(["card", str(run)]) == 0
    card = (run / "README.md").read_text()
    assert ("regression of a and b" if recipe == "regression" else "with 3 labels") in card
    capsys.readouterr()
    for command in ("missing", "robustness", "analyse", "probe"):
        assert main([command, str(run)]) != 0
        assert f"one class out of several, found {recipe}" in capsys.readouterr().err
    assert main(["report", "runs", "--output", "report.html"]) == 0


@pytest.mark.parametrize("recipe", ["regression"], indirect=True)
def test_what_a_recipe_cannot_ask_for(recipe, capsys):
    cases = {
        ("compare", "mine.yaml", "--robustness", "--modulations", "none"): "one class out of several",
        ("train", "mine.yaml", "--modulations", "tcmax"): "tcmax",
        ("train", "mine.yaml", "--metric_for_best_model", "accuracy"): "Known: mae",
        ("train", "mine.yaml", "--class_weights", "[1.0]"): "class_weights",
        ("train", "mine.yaml", "--fusion", "average_probabilities"): "average_logits",
    }
    for arguments, message in cases.items():
        assert main([*arguments, "--output_dir=runs"]) != 0, arguments
        assert message in capsys.readouterr().err, arguments
