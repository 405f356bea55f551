"""What the metrics of runs are called, which of them a table shows, and how."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .row import Row

PERCENTAGES = ("accuracy", "event_accuracy", "mean_average_precision", "f1_", "hamming_loss")
NUMBERS = ("mae", "rmse", "correlation")  # of a regression
LOWER_IS_BETTER = ("loss", "ece", "hamming", "mae", "rmse")  # and what begins so, before a _
MEASURED = "robust/"  # the beginning of what is measured beside a run's own metrics, fractions too
NO_QUANTITIES = ("seed", "fold")
HIDDEN = ("mean_average_precision_classes",)


def lower_is_better(metric: str) -> bool:
    """Whether less of a metric, of either split, is better: the loss, an error."""
    return metric.removeprefix("validation_").rpartition("/")[2].partition("_")[0] in LOWER_IS_BETTER


def validation_metric(rows: Iterable[Row], metric: str) -> str:
    """The validation split's name of a test metric; the first one that the rows have, if the metric has none there."""
    name = f"validation_{metric}"
    return name if all(name in run for row in rows for run in row.runs) else first_validation_metric(rows)


def first_validation_metric(rows: Iterable[Row]) -> str:
    """What tells on validation how good runs are: the accuracy; of a regression the mean absolute error."""
    runs = [run for row in rows for run in row.runs]
    is_regression = any("validation_mae" in run for run in runs) and not any(
        "validation_accuracy" in run for run in runs
    )
    return "validation_mae" if is_regression else "validation_accuracy"


def compared_by(rows: Iterable[Row], metric: str) -> str:
    """The metric that rows are compared by; in the place of the default, `accuracy`, their first one, if they have
    none."""
    return first_validation_metric(list(rows)).removeprefix("validation_") if metric == "accuracy" else metric


def shown_metrics(rows: Iterable[Row]) -> list[str]:
    """The metrics of a table: accuracies, mAP, F1, errors and ratios, in the order in which they first appear."""
    rows = list(rows)
    prefixes = (*PERCENTAGES, *NUMBERS, "ratio_")
    names = dict.fromkeys(name for row in rows for run in row.runs for name in run if name.startswith(prefixes))
    return [first_validation_metric(rows), *[name for name in names if name not in HIDDEN]]


def scale_and_digits(metric: str) -> tuple[int, int]:
    """What a table multiplies a metric's values by, and how many digits it shows after the point."""
    return (100, 1) if metric.removeprefix("validation_").startswith((*PERCENTAGES, MEASURED)) else (1, 2)


def metric_names(rows: Iterable[Row]) -> list[str]:
    """Every quantity that any run has, in the order in which they first appear."""
    names = (name for row in rows for run in row.runs for name, value in run.items() if is_metric(name, value))
    return list(dict.fromkeys(names))


def is_metric(name: str, value: Any) -> bool:
    """Whether an entry of a run is a quantity."""
    return name not in NO_QUANTITIES and isinstance(value, (int, float)) and not isinstance(value, bool)
