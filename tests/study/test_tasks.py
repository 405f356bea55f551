from __future__ import annotations

from typing import Any

import pytest
from datasets import ClassLabel, List, Value

from hf_bml import MultimodalConfig, MultimodalForClassification
from hf_bml.models.configuration_multimodal import ModalitiesConfig
from hf_bml.study import metric_checks, model_checks, run_model
from hf_bml.study.fingerprint import fingerprint
from hf_bml.study.parser import train_parser
from hf_bml.study.recipe import parse_recipe
from hf_bml.study.tasks import TASKS, Task, check_label_type

YAML = "dataset: digits\nmodalities:\n  a: {type: conv, channels: [2]}\nuse_cpu: true\n"


class OtherConfig(ModalitiesConfig):
    model_type = "other_task"

    architecture: str | None = None
    architecture_options: dict[str, Any] | None = None


@pytest.fixture
def parse(tmp_path):
    def parse(*arguments, text=YAML):
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        return parse_recipe(train_parser(), path, [str(path), f"--output_dir={tmp_path / 'out'}", *arguments])

    return parse


@pytest.fixture
def other(monkeypatch):
    """A second task."""
    monkeypatch.setitem(TASKS, "other", Task(OtherConfig, MultimodalForClassification, lambda _: {}, ("accuracy",)))


def test_classification_is_the_default(parse):
    recipe = parse()
    assert recipe.model.task == "classification" and "task" not in recipe.explicit
    assert isinstance(run_model.build_config(recipe), MultimodalConfig)


def test_a_mistyped_task(parse):
    with pytest.raises(
        ValueError, match=r"task must be one of .*found 'clasification'. Did you mean 'classification'"
    ):
        parse("--task", "clasification")


def test_the_options_are_those_of_the_tasks_config(parse, other):
    config = run_model.build_config(parse("--task", "other", "--architecture", "tall"), num_labels=3)
    assert type(config) is OtherConfig and (config.architecture, config.num_labels) == ("tall", 3)
    assert {"modalities", "architecture", "architecture_options"} <= set(TASKS["other"].options)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [(["--fusion", "film"], YAML), ([], YAML + "fusion: concat\n"), (["--interaction_options.stages=1"], YAML)],
)
def test_an_option_of_another_task(parse, other, arguments, text):
    with pytest.raises(
        ValueError, match=r"'(fusion|interaction_options)' belongs to the tasks classification, .*, but"
    ):
        parse("--task", "other", *arguments, text=text)


def test_an_option_of_another_task_for_classification(parse, other):
    with pytest.raises(ValueError, match=r"'architecture' belongs to the tasks .*other, but.* set task: .*other"):
        parse("--architecture", "tall")


def test_metrics_are_the_tasks(parse, other):
    assert metric_checks.metric_names(parse("--task", "other"), ["a"], 2) == ["accuracy", "loss", "accuracy_a"]
    with pytest.raises(ValueError, match="unknown metric 'f1_weighted'"):
        metric_checks.compared_metric("f1_weighted", parse("--task", "other"))


def test_a_checkpoint_of_another_task(parse, other, tmp_path):
    run_model.build_model(parse(), None, 2).save_pretrained(tmp_path / "checkpoint")
    checkpoint = ["--model_name_or_path", str(tmp_path / "checkpoint")]
    model_checks.check_model(parse(*checkpoint))
    with pytest.raises(ValueError, match=r"task classification, but the recipe has task: other. Set task: classific"):
        model_checks.check_model(parse(*checkpoint, "--task", "other"))


def test_the_task_is_part_of_what_a_run_computes(parse, other):
    assert fingerprint(parse()) != fingerprint(parse("--task", "other"))


def test_checkpoints_and_metrics_of_a_problem_type(parse, tmp_path):
    regression = parse("--task", "regression")
    run_model.build_model(regression, None, 1).save_pretrained(tmp_path / "checkpoint")
    with pytest.raises(ValueError, match="model of task regression, but the recipe has task: classification"):
        model_checks.check_model(parse("--model_name_or_path", str(tmp_path / "checkpoint")))
    names = metric_checks.metric_names(regression, ["a"])
    assert names == ["mae", "rmse", "correlation", "loss", "mae_a", "correlation_a"]
    assert metric_checks.compared_metric("accuracy", regression) == "mae"
    assert metric_checks.compared_metric("accuracy", parse()) == "accuracy"


@pytest.mark.parametrize(
    "feature, fitting",
    [
        (ClassLabel(names=["a", "b"]), "classification"),
        (List(ClassLabel(names=["a", "b"])), "multi_label_classification"),
        (Value("float32"), "regression"),
    ],
)
def test_labels_of_another_task_are_named(feature, fitting):
    for task in ("classification", "multi_label_classification", "regression"):
        if task == fitting:
            check_label_type(task, feature)
        else:
            with pytest.raises(ValueError, match=f"labels of task: {task}, found .*Set task: {fitting}"):
                check_label_type(task, feature)
    check_label_type("segment_classification", List(ClassLabel(names=["a", "b"])))
