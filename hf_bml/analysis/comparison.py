"""Rows of runs side by side: means over seeds, and paired differences to a baseline and to a control."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .summary import PairedDifference, markdown_table, paired_difference

PLAIN = "none"  # `Row.methods` without modulation
INTERVAL = "[95 % interval]"
PERCENTAGES = ("accuracy", "event_accuracy", "mean_average_precision", "f1_")
MEASURED = "robust/"  # the beginning of what is measured beside a run's own metrics, fractions too
NO_QUANTITIES = ("seed", "fold")
HIDDEN = ("mean_average_precision_classes",)


@dataclass
class Row:
    """What is compared: a recipe, or a method on a recipe, run once per seed.

    Attributes:
        label: what it is called.
        recipe: the recipe's name where a table holds several recipes, else empty.
        methods: the names of its modulations joined by `+`, `"none"` without; empty where recipes are compared.
        model: what its model has other than the recipe's, such as `interaction=mmtm`, else empty.
        plain: what plain training of that model is called.
        runs: one mapping per seed, metrics and `seed`, in the same order of seeds in every row. The times are
            `train_seconds`, without estimation, `estimation_seconds`, and `epoch_seconds`, of a typical epoch. Where
            folds are tested, one per fold and seed, with `fold`; `protocol` says how the splits were cut.
        source: the recipe's name, also where there is one only.
        dataset: the name of what it is trained on.
        setting: the searched values that it has, empty without a search.
        search: one mapping per setting that was tried, as in `runs`, with `setting`.
    """

    label: str
    recipe: str = ""
    methods: str = ""
    model: str = ""
    plain: str = PLAIN
    runs: list[dict[str, Any]] = field(default_factory=list)
    source: str = ""
    dataset: str = ""
    setting: str = ""
    search: list[dict[str, Any]] = field(default_factory=list)

    @property
    def title(self) -> str:
        """The label, behind the recipe's name where there are several."""
        return f"{self.recipe}: {self.label}" if self.recipe else self.label

    @property
    def sourced(self) -> str:
        """The label behind the recipe's name."""
        return f"{self.source}: {self.label}"

    def values(self, metric: str) -> np.ndarray:
        """The metric of the runs that have it, `(n,)`; of folds their means over seeds."""
        if self.folds:
            return per_unit(self.by_run(metric)).to_numpy()
        return np.asarray([run[metric] for run in self.runs if metric in run], dtype=float)

    @property
    def seeds(self) -> list[int]:
        """The seeds of the runs."""
        return [run["seed"] for run in self.runs]

    @property
    def folds(self) -> list[int]:
        """The folds that were tested, none without a cut into folds."""
        return sorted({run["fold"] for run in self.runs if "fold" in run})

    def by_run(self, metric: str) -> pd.Series:
        """The metric by (fold, seed), of the runs that have it; -1 for runs without fold."""
        found = [(run.get("fold", -1), run["seed"], run[metric]) for run in self.runs if metric in run]
        folds, seeds, values = zip(*found, strict=True) if found else ((), (), ())
        return pd.Series(values, pd.MultiIndex.from_arrays([folds, seeds], names=["fold", "seed"]), dtype=float)

    def by_seed(self, metric: str) -> dict[int, float]:
        """The metric per seed, of the runs that have it."""
        return {run["seed"]: float(run[metric]) for run in self.runs if metric in run}

    def mean(self, metric: str) -> float:
        """Mean over the runs that have the metric; NaN without any."""
        values = self.values(metric)
        return float(values.mean()) if len(values) else math.nan

    def spread(self, metric: str) -> float:
        """Standard deviation (n - 1) over the runs; NaN for fewer than two."""
        values = self.values(metric)
        return float(values.std(ddof=1)) if len(values) > 1 else math.nan


def per_unit(values: pd.Series) -> pd.Series:
    """Values by (fold, seed) as what an interval counts: a mean per fold or, without folds, the values."""
    return values if (values.index.get_level_values(0) == -1).all() else values.groupby(level=0).mean()


def row_overlap(runs: Sequence[Mapping[str, Any]]) -> float:
    """How much an interval over runs must be widened as they share training rows, see `paired_difference`.

    Folds: the rows of the test split by those of the training, on average (Nadeau and Bengio). Draws of m out of N
    training rows share m / N of their rows on average, which is the correlation of results to which each row adds
    its part: m / (N - m). All rows drawn: 0, as only the seed of the training differs.
    """
    shares = []
    for protocol in (run["protocol"] for run in runs if "protocol" in run):
        drawn, pool = protocol["train"], protocol["pool"]
        if "folds" in protocol:
            shares.append(protocol["test"] / pool)
        else:
            shares.append(drawn / (pool - drawn) if drawn < pool else 0.0)
    return float(np.mean(shares)) if shares else 0.0


def reference_row(row: Row, rows: Sequence[Row]) -> Row:
    """`none` of the row's recipe, on the recipe's own model if it is there; without any `none` the first row."""
    same_recipe = [other for other in rows if other.recipe == row.recipe]
    plain = sorted((other for other in same_recipe if other.methods == PLAIN), key=lambda other: other.model != "")
    return (plain or same_recipe)[0]


def baseline_row(row: Row, rows: Sequence[Row]) -> Row:
    """What a row is compared to: `none` on the same model if it is there, else the reference."""
    if row.methods != PLAIN:
        for other in rows:
            if (other.methods, other.recipe, other.model) == (PLAIN, row.recipe, row.model):
                return other
    return reference_row(row, rows)


def is_control(row: Row, control: str) -> bool:
    """Whether `control` is the row's label or its method, with any options; a combination is another method. With
    the recipe's name before it, `concat: none`, it is that recipe's."""
    return control in (row.label, row.methods, row.sourced, f"{row.source}: {row.methods}")


def control_row(row: Row, rows: Sequence[Row], control: str, metric: str) -> Row | None:
    """The control with the best mean validation `metric` (accuracy, where validation lacks it).

    Of the same recipe, else of the same data set, and of the same model if there is one; None without any.
    """
    controls = [other for other in rows if is_control(other, control)]
    candidates = [other for other in controls if other.recipe == row.recipe]
    candidates = candidates or [other for other in controls if other.dataset == row.dataset != ""]
    candidates = [other for other in candidates if other.model == row.model] or candidates
    if not candidates:
        return None
    return best_row(candidates, metric)


def best_row(rows: Sequence[Row], metric: str) -> Row:
    """The row with the best mean of the validation split's `metric`; of equal ones the first."""
    key = validation_metric(rows, metric)
    return rows[best_value([row.mean(key) for row in rows], key)]


def best_run(runs: Sequence[Mapping[str, Any]], metric: str) -> int:
    """The index of the run with the best value of a metric; of equal ones the first."""
    return best_value([run.get(metric, math.nan) for run in runs], metric)


def best_value(values: Sequence[float], metric: str) -> int:
    """The index of the best value, where NaN is the worst; of equal ones the first."""
    sign = -1 if lower_is_better(metric) else 1
    return max(range(len(values)), key=lambda index: -math.inf if math.isnan(values[index]) else sign * values[index])


def lower_is_better(metric: str) -> bool:
    """Whether less of a metric, of either split, is better: the loss, a calibration error."""
    name = metric.removeprefix("validation_").rpartition("/")[2]
    return name == "loss" or name.partition("_")[0] == "ece"


def validation_metric(rows: Iterable[Row], metric: str) -> str:
    """The validation split's name of a test metric; its accuracy, if the metric has none there."""
    name = f"validation_{metric}"
    return name if all(name in run for row in rows for run in row.runs) else "validation_accuracy"


def difference(row: Row, other: Row, metric: str) -> PairedDifference | None:
    """The paired difference of two rows over their common seeds, or folds; None without any, or if a run lacks the
    metric."""
    if not all(metric in run for run in [*row.runs, *other.runs]):
        return None
    ours, theirs = row.by_run(metric), other.by_run(metric)
    common = ours.index.intersection(theirs.index, sort=False)
    if common.empty:
        return None
    return paired_difference(*(per_unit(values[common]) for values in (ours, theirs)), overlap=row_overlap(row.runs))


def relative_time(row: Row, rows: Sequence[Row], time: str = "train_seconds") -> float:
    """Mean of a time over the runs, divided by the reference's; NaN where one of them was not measured."""
    return row.mean(time) / reference_row(row, rows).mean(time)


def shown_metrics(rows: Iterable[Row]) -> list[str]:
    """The metrics of a table: accuracies, mAP, F1 and ratios, in the order in which they first appear."""
    prefixes = (*PERCENTAGES, "ratio_")
    names = dict.fromkeys(name for row in rows for run in row.runs for name in run if name.startswith(prefixes))
    return ["validation_accuracy", *[name for name in names if name not in HIDDEN]]


def scale_and_digits(metric: str) -> tuple[int, int]:
    """What a table multiplies a metric's values by, and how many digits it shows after the point."""
    return (100, 1) if metric.removeprefix("validation_").startswith((*PERCENTAGES, MEASURED)) else (1, 2)


def mean_cell(row: Row, metric: str) -> str:
    """Mean ± standard deviation; a dash without values."""
    scale, digits = scale_and_digits(metric)
    if not len(row.values(metric)):
        return "-"
    spread = row.spread(metric)
    return f"{scale * row.mean(metric):.{digits}f}" + ("" if math.isnan(spread) else f" ± {scale * spread:.{digits}f}")


def difference_cell(row: Row, other: Row | None, metric: str, usual: str) -> str:
    """Mean [low, high], and what it is a difference to unless that is the `usual` label; empty for the row itself.

    A single pair has no interval, nor have pairs that all differ alike.
    """
    if row is other:
        return ""
    found = difference(row, other, metric) if other is not None else None
    if found is None:
        return "-"
    scale, digits = scale_and_digits(metric)
    mean, low, high = (f"{scale * value:+.{digits}f}" for value in (found.mean, found.low, found.high))
    interval = "" if math.isnan(found.low) else f" [{low}, {high}]"
    return mean + interval + ("" if other.label == usual else f" to {other.label}")


def comparison_table(rows: Sequence[Row], metric: str, control: str | None = None, columns: Sequence[str] = ()) -> str:
    """`comparison_cells` in Markdown."""
    return markdown_table(*comparison_cells(rows, metric, control, columns))


def comparison_cells(
    rows: Sequence[Row], metric: str, control: str | None = None, columns: Sequence[str] = ()
) -> tuple[list[str], list[list[str]]]:
    """Rows by metrics over seeds: mean ± standard deviation (n - 1), training time relative to the reference, and
    paired differences to the baseline and to the best control.

    Accuracies, mAP and F1 are shown times 100.

    Args:
        rows: differences are taken over the seeds that two rows share.
        metric: the metric of the paired differences; a dash where a row lacks it.
        control: see `is_control`; None for no such column.
        columns: further metrics to show, a dash where a row lacks one.

    Returns:
        header and lines.
    """
    reference = reference_row(rows[0], rows).label
    usual = best_labels(rows, control, metric)[0] if control is not None else ""

    def against_baseline(row: Row) -> str:
        return difference_cell(row, baseline_row(row, rows), metric, reference)

    def against_control(row: Row) -> str:
        return difference_cell(row, control_row(row, rows, control, metric), metric, usual)

    def time(name: str, row: Row) -> str:
        return number(relative_time(row, rows, name))

    metrics = list(dict.fromkeys([*shown_metrics(rows), *columns]))
    table: list[tuple[bool, str, Callable[[Row], str]]] = [  # whether it is shown, header, cell
        (any(row.recipe for row in rows), "recipe", lambda row: row.recipe),
        (True, "method" if rows[0].methods else "recipe", lambda row: row.label),
        (any(row.model for row in rows), "model", lambda row: row.model),
        (any(row.setting for row in rows), "setting", lambda row: row.setting),
        (any(row.search for row in rows), "search: trainings, seconds", search_cost),
        (any(row.folds for row in rows), "folds", lambda row: str(len(row.folds))),
        (True, "seeds", lambda row: str(len(set(row.seeds)) if row.folds else len(row.runs))),
        *[(True, name, partial(mean_cell, metric=name)) for name in metrics],
        (True, f"training time ({reference} = 1)", partial(time, "train_seconds")),
        (has_epoch_times(rows), f"epoch time ({reference} = 1)", partial(time, "epoch_seconds")),
        (
            any(row.values("estimation_seconds").any() for row in rows),
            "estimation, seconds",
            partial(mean_cell, metric="estimation_seconds"),
        ),
        (True, f"{metric}: difference to {reference} {INTERVAL}", against_baseline),
        (control is not None, f"{metric}: difference to {usual} {INTERVAL}", against_control),
    ]
    shown = [(name, cell) for is_shown, name, cell in table if is_shown]
    return [name for name, _ in shown], [[cell(row) for _, cell in shown] for row in rows]


def has_epoch_times(rows: Sequence[Row]) -> bool:
    """Whether the time of a typical epoch is known of any run."""
    return any(len(row.values("epoch_seconds")) for row in rows)


def best_labels(rows: Sequence[Row], control: str, metric: str) -> list[str]:
    """Labels of the best controls, first the first row's; one per recipe and model."""
    found = [control_row(row, rows, control, metric) for row in rows]
    return list(dict.fromkeys(row.label for row in found if row is not None)) or [control]


def comparison_notes(rows: Sequence[Row], metric: str, control: str | None = None) -> list[str]:
    """What a reader of the table must know, a sentence or two each."""
    seeds = ", ".join(map(str, dict.fromkeys(rows[0].seeds)))
    units = "seeds" if not any(row.folds for row in rows) else "folds, each a mean over the seeds"
    if units != "seeds" and not all(row.folds for row in rows):
        units = "seeds, or where there are folds over these"
    notes = [f"Test split, accuracies, mAP and F1 times 100, mean ± standard deviation over {units} ({seeds})."]
    if len(rows) > 1 and len(rows[0].runs) > 1:
        pairs = "seed" if units == "seeds" else "seed and fold"
        notes.append(
            f"Differences are paired by {pairs}, with Student's interval unless all pairs differ alike; training "
            "times leave estimation out."
        )
    notes += protocol_notes(rows)
    if lower_is_better(metric):
        notes.append(f"Less {metric} is better: a difference below 0 is a gain.")
    if has_epoch_times(rows):
        notes.append("Epoch times are medians of the epochs after the first, without evaluations and saves.")
    for row in rows:
        if row.methods != PLAIN and row.model and baseline_row(row, rows).model != row.model:
            notes.append(
                f"{row.title}: {row.model}, unlike {baseline_row(row, rows).label}. Add the method {row.plain} for a "
                "difference on the same model."
            )
    if control is not None:
        best = [control_row(row, rows, control, metric) for row in rows]
        for row in (row for row in rows if any(row is other for other in best)):
            key = validation_metric([row], metric)
            notes.append(f"Control: {row.title} has the best {key} of {control}, {mean_cell(row, key)}.")
    notes += search_notes(rows)
    environments = sorted({f"{run['device']}, torch {run['torch']}" for row in rows for run in row.runs})
    if len(environments) > 1:
        notes.append(f"The runs come from different machines ({'; '.join(environments)}): times do not compare.")
    return notes


def protocol_notes(rows: Sequence[Row]) -> list[str]:
    """How the splits were cut, and what the intervals then mean; of several recipes each by its name."""
    notes: dict[str, list[str]] = {}
    for row in rows:
        if row.runs and "protocol" in row.runs[0] and row.recipe not in notes:
            notes[row.recipe] = protocol_sentences([run["protocol"] for run in row.runs], row_overlap(row.runs))
    alike = len({tuple(own) for own in notes.values()}) == 1 and len(notes) == len({row.recipe for row in rows})
    if alike:
        return next(iter(notes.values()))
    return [f"{recipe}: {' '.join(own)}" if recipe else " ".join(own) for recipe, own in notes.items()]


def protocol_sentences(protocols: Sequence[Mapping[str, Any]], overlap: float) -> list[str]:
    """`protocol_notes` of one row's runs."""
    first, sentences = protocols[0], []
    if "folds" in first:
        held_out = (
            "whole groups of the data set's column `group`"
            if first["groups"]
            else "single rows, as the data set has no column `group`: test rows may be related to training rows"
        )
        sentences.append(
            f"All rows were cut into {first['folds']} folds of {held_out}. A fold is tested with the next one as "
            "validation, and the rest for training."
        )
    if "train_per_class" in first:
        sizes = [int(np.median([protocol[name] for protocol in protocols])) for name in ("train", "pool")]
        sentences.append(
            f"Training: at most {first['train_per_class']} rows of a class, drawn by the seed, {sizes[0]} of "
            f"{sizes[1]} rows."
        )
    if overlap:
        shared = (
            "folds share training rows: by Nadeau and Bengio its variance has 1/n + test rows / training rows"
            if "folds" in first
            else "draws of m out of N training rows share some: its variance has 1/n + m / (N - m)"
        )
        sentences.append(
            f"Intervals of differences (Student's, n - 1 degrees of freedom) are widened, as {shared} "
            f"(1/n + {overlap:.2f}) for 1/n."
        )
    if "folds" not in first:
        sentences.append(
            "Intervals are about the choice of training rows and the seed; all runs share one test split, and its "
            "choice is not covered."
        )
    return sentences


def search_cost(row: Row) -> str:
    """How many trainings a row's search took, and how many seconds."""
    seconds = sum(run.get("train_seconds", math.nan) + run.get("estimation_seconds", 0.0) for run in row.search)
    trainings = sum(run.get("trainings", 1) for run in row.search)
    return f"{trainings}, {'-' if math.isnan(seconds) else format(seconds, '.0f')}" if row.search else ""


def search_notes(rows: Sequence[Row]) -> list[str]:
    """What was tried for each row, with the validation metric that chose."""
    notes = []
    for row in (row for row in rows if row.search):
        first = row.search[0]
        key, fold = first["chosen_by"], f", fold {first['fold']}" if "fold" in first else ""
        scale, digits = scale_and_digits(key)
        tried = "; ".join(f"{run['setting']} {scale * run[key]:.{digits}f}" for run in row.search)
        notes.append(
            f"{row.title}: {row.setting} out of {len(row.search)} tried by {key} (seed {first['seed']}{fold}): "
            f"{tried}."
        )
    if notes:
        notes.insert(
            0,
            "Settings were chosen on validation, by one run each. The cost of a search has every training that a "
            "method needs, also those of unimodal models that other rows use too.",
        )
    if any("fold" in run for row in rows for run in row.search):
        notes.append("The validation rows that chose a setting are test rows of another fold.")
    return notes


def number(value: float) -> str:
    """Two digits after the point; a dash for NaN."""
    return "-" if math.isnan(value) else f"{value:.2f}"


def row_records(rows: Sequence[Row], metric: str, control: str | None = None) -> list[dict[str, Any]]:
    """What `comparison_table` shows as numbers, one mapping per row, and the means of everything else; unscaled."""
    names = metric_names(rows)
    records = []
    for row in rows:
        record = {**described(row), "seeds": len(row.runs), **mean_record(row, names)}
        record["relative_train_seconds"] = relative_time(row, rows)
        record["relative_epoch_seconds"] = relative_time(row, rows, "epoch_seconds")
        record |= difference_record("baseline", row, baseline_row(row, rows), metric)
        if control is not None:
            record |= difference_record("control", row, control_row(row, rows, control, metric), metric)
        records.append(record)
    return records


def metric_names(rows: Iterable[Row]) -> list[str]:
    """Every quantity that any run has, in the order in which they first appear."""
    names = (name for row in rows for run in row.runs for name, value in run.items() if is_metric(name, value))
    return list(dict.fromkeys(names))


def mean_record(row: Row, names: Iterable[str]) -> dict[str, float]:
    """`<name>_mean` and `<name>_std` of each quantity; NaN where the row lacks it."""
    return {k: v for name in names for k, v in ((f"{name}_mean", row.mean(name)), (f"{name}_std", row.spread(name)))}


def run_records(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """One mapping per run: what its row is, and everything that is known of the run."""
    return [{**described(row), **run} for row in rows for run in row.runs]


def described(row: Row) -> dict[str, str]:
    """The columns that say what a row is."""
    setting = {"setting": row.setting} if row.setting else {}
    return {"recipe": row.recipe, "method": row.label, "model": row.model, **setting}


def is_metric(name: str, value: Any) -> bool:
    """Whether an entry of a run is a quantity."""
    return name not in NO_QUANTITIES and isinstance(value, (int, float)) and not isinstance(value, bool)


def difference_record(what: str, row: Row, other: Row | None, metric: str) -> dict[str, Any]:
    """`<what>`, the other row's label, and `<metric>_minus_<what>` with `_low` and `_high`; empty to itself."""
    found = difference(row, other, metric) if other is not None and other is not row else None
    mean, low, high = (found.mean, found.low, found.high) if found is not None else (math.nan,) * 3
    name = f"{metric}_minus_{what}"
    return {what: "" if other is None else other.label, name: mean, f"{name}_low": low, f"{name}_high": high}


def write_csv(records: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """Writes mappings as a table, the columns in the order in which they first appear; NaN becomes an empty cell."""
    pd.DataFrame(records, dtype=object).to_csv(path, index=False, lineterminator="\n")
