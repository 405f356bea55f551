"""What a recipe can train for: per task the model, its config, and the metrics of an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any

from datasets import ClassLabel, LargeList, List, Value
from transformers import EvalPrediction, PreTrainedConfig

from ..ground.suggestion import did_you_mean
from ..ground.task import SINGLE_LABEL
from ..metrics import (
    classification_metrics,
    multi_label_metrics,
    question_answering_metrics,
    regression_metrics,
    segment_classification_metrics,
)
from ..models import (
    MultimodalConfig,
    MultimodalForClassification,
    MultimodalForQuestionAnswering,
    MultimodalForSegmentClassification,
    QuestionAnsweringConfig,
    SegmentClassificationConfig,
)
from ..models.configuration_multimodal import ModalitiesConfig
from ..models.pretrained import MultimodalPreTrainedModel


@dataclass(frozen=True)
class Task:
    """A task of `hf-bml train`.

    Attributes:
        config_class: of the model; its own fields are the task's model options.
        model_class: has the face of `MultimodalForClassification`.
        metrics: for `Trainer(compute_metrics=...)`; yields at least the first of `metric_names` and, where the
            modalities have predictions of their own, the same of each, `accuracy_<modality>`.
        metric_names: what `metrics` yields, without those of single modalities; runs are compared by the first one.
            `f1_binary` exists for two classes.
        collator_options: keywords of `MultimodalDataCollator`. If a column in `passed_on` holds classes, `metrics`
            takes their names as `type_names`.
        unimodal_names: of the metrics that `metrics` also yields for each modality, `<name>_<modality>`.
        problem_type: of the config; None for one class out of several.
    """

    config_class: type[ModalitiesConfig]
    model_class: type[MultimodalPreTrainedModel]
    metrics: Callable[[EvalPrediction], dict[str, float]]
    metric_names: tuple[str, ...]
    collator_options: Mapping[str, Any] = field(default_factory=dict)
    unimodal_names: tuple[str, ...] = ("accuracy",)
    problem_type: str | None = None

    @property
    def config_options(self) -> dict[str, Any]:
        """What the task sets in the model's config."""
        return {} if self.problem_type is None else {"problem_type": self.problem_type}

    @property
    def options(self) -> dict[str, Field]:
        """The model options by name: the config's own fields but `modality_order`, which `modalities` gives."""
        inherited = {f.name for f in fields(PreTrainedConfig)} | {"modality_order"}
        return {f.name: f for f in fields(self.config_class) if f.name not in inherited}


TASKS: dict[str, Task] = {
    "classification": Task(
        MultimodalConfig,
        MultimodalForClassification,
        classification_metrics,
        ("accuracy", "mean_average_precision", "mean_average_precision_classes", "f1_weighted", "f1_binary"),
    ),
    "multi_label_classification": Task(
        MultimodalConfig,
        MultimodalForClassification,
        multi_label_metrics,
        ("accuracy", "hamming_loss", "f1_micro", "f1_macro", "mean_average_precision"),
        {"problem_type": "multi_label_classification"},
        problem_type="multi_label_classification",
    ),
    "regression": Task(
        MultimodalConfig,
        MultimodalForClassification,
        regression_metrics,
        ("mae", "rmse", "correlation"),
        {"problem_type": "regression"},
        ("mae", "correlation"),
        problem_type="regression",
    ),
    "question_answering": Task(
        QuestionAnsweringConfig,
        MultimodalForQuestionAnswering,
        question_answering_metrics,
        ("accuracy",),
        collator_options={"passed_on": ("question_type",)},
    ),
    "segment_classification": Task(
        SegmentClassificationConfig,
        MultimodalForSegmentClassification,
        segment_classification_metrics,
        ("accuracy", "event_accuracy"),
        {"segments": True},
    ),
}


def check_task_name(name: object) -> None:
    """Raises ValueError, naming the closest valid one, unless there is such a task."""
    if name not in TASKS:
        raise ValueError(f"task must be one of {list(TASKS)}, found {name!r}.{did_you_mean(name, TASKS)}")


def check_task_options(name: str, given: Iterable[str]) -> None:
    """Raises ValueError if one of the `given` options belongs to the models of other tasks only.

    Args:
        name: the task.
        given: options of a recipe, of any kind.
    """
    own = list(TASKS[name].options)
    for option in given:
        owners = [other for other, task in TASKS.items() if option in task.options]
        if owners and option not in own:
            named = f"task {owners[0]}" if len(owners) == 1 else f"tasks {', '.join(owners)}"
            raise ValueError(
                f"the option {option!r} belongs to the {named}, but the recipe has task: {name}, "
                f"whose model options are {own}. Leave it out, or set task: {' or '.join(owners)}."
            )


def task_name(config: ModalitiesConfig) -> str | None:
    """The task that a model's config is for; None if it is for none."""
    for name, task in TASKS.items():
        if type(config) is task.config_class and (config.problem_type or SINGLE_LABEL) == (
            task.problem_type or SINGLE_LABEL
        ):
            return name
    return None


def check_label_type(task: str, feature: Any) -> None:
    """Raises ValueError if labels are of another task than the recipe's: numbers, one class, or several."""
    is_list = isinstance(feature, List | LargeList)
    if isinstance(feature, Value) and "float" in feature.dtype:
        found, fitting = "a float a row", "regression"
    elif isinstance(feature, ClassLabel):
        found, fitting = "one class a row", "classification"
    elif is_list and isinstance(feature.feature, ClassLabel):
        found, fitting = "several classes a row", "multi_label_classification"
    else:
        return
    if task in ("classification", "multi_label_classification", "regression") and task != fitting:
        numbers = ", or, of from_columns, numbers: true for numbers" if task == "regression" and not is_list else ""
        raise ValueError(f"expected labels of task: {task}, found {found}. Set task: {fitting}{numbers}.")


def check_tells_classes(problem_type: str | None) -> None:
    """Raises ValueError for a problem type other than one class out of several."""
    if (problem_type or SINGLE_LABEL) != SINGLE_LABEL:
        raise ValueError(
            "analyse, probe, missing and robustness look at models that tell one class out of several, found "
            f"{problem_type}. Use hf-bml evaluate and compare, which have its own metrics."
        )
