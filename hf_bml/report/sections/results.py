"""Results and settings in a report, and the paper's numbers beside them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ...analysis.comparison_notes import comparison_notes
from ...analysis.comparison_table import INTERVAL, comparison_cells
from ...analysis.metric_names import NUMBERS
from ...figures.dots import plot_accuracies
from ...study.run_groups import RunGroup
from ..figure_folder import FigureFolder
from ..page import Table, Text
from ..paper_results import matching_results, paper_dataset, paper_method, paper_results
from ..verdict import listed

NOISE_TEXT = "95 % intervals over {}s where there are three or more, both values where there are two"  # seeds or folds
METRIC_NAMES = {"accuracy": "accuracy", "mean_average_precision": "mAP", "f1_weighted": "weighted F1"}


def result_parts(groups: Sequence[RunGroup], metric: str, figures: FigureFolder) -> list[Any]:
    """The accuracies as dots and the table of all metrics."""
    rows = [group.row for group in groups]
    header, lines = comparison_cells(rows, metric)
    header = ["run", *[name.replace("_", " ") if name.isidentifier() else name for name in header[1:]]]
    at = next(place for place, name in enumerate(header) if name.endswith(INTERVAL))
    for line in [header, *lines]:
        line.insert(2, line.pop(at))  # where it is seen without scrolling
    parts: list[Any] = []
    if any("accuracy" in run for run in rows[0].runs):
        caption = (
            "Test accuracy of all modalities, and of each alone through the joint head, each on its own scale: means, "
            f"{NOISE_TEXT.format(rows[0].unit)}; dashed: {rows[0].label}."
        )
        text = f"Dots of the accuracies of {listed(row.label for row in rows)}."
        parts.append(figures.draw("accuracy", caption, text, plot_accuracies, rows, styled=False))
    unit = "Test split; accuracies, mAP and F1 times 100"
    if metric in NUMBERS:
        unit = "Test split; errors in the units of the labels"
    spread = f", mean ± standard deviation over {rows[0].unit}s" if any(len(row.runs) > 1 for row in rows) else ""
    parts.append(Table(f"{unit}{spread}.", header, lines))
    notes = [note for note in comparison_notes(rows, metric)[1:] if "Student" not in note]
    seeds = {row.label: ", ".join(map(str, dict.fromkeys(row.seeds))) for row in rows}
    same = len(set(seeds.values())) == 1
    listing = seeds[rows[0].label] if same else "; ".join(f"{label}: {own}" for label, own in seeds.items())
    parts.append(Text(lines=[f"Seeds: {listing}.", *notes]))
    return parts


def paper_parts(groups: Sequence[RunGroup]) -> list[Any]:
    """The paper's results on the same data set beside ours, and everything that it reports for it."""
    options = groups[0].first.options
    dataset = paper_dataset(
        groups[0].dataset, str(options.get("task", "classification")), options.get("dataset_options")
    )
    if dataset is None:
        return []
    lines = []
    for group in groups:
        method = paper_method(group.first.options, group.encoders)
        for result in matching_results(dataset, method).itertuples():
            ours = group.row.mean(result.Index)
            own = "-" if math.isnan(ours) else f"{100 * ours:.1f}"
            cells = [f"{result.value:.1f}", result.method, f"Table {result.table}"]
            lines.append([group.label, METRIC_NAMES[result.Index], own, *cells])
    parts: list[Any] = []
    if lines:
        header = ["run", "metric", "here", "paper", "the paper's row", "source"]
        parts.append(Table(f"{dataset}, per cent.", header, lines))
    else:
        parts.append(Text(f"The paper reports {dataset}, but none of these methods on these models."))
    parts.append(
        Text(
            "The paper gives single numbers without spread. Encoders, splits and length of training may differ from "
            "these runs (see the settings): compare the order of methods first."
        )
    )
    found = paper_results().query("dataset == @dataset").itertuples()
    every = [[f"Table {cell.table}", cell.method, cell.metric, f"{cell.value:g}"] for cell in found]
    parts.append(
        Table(f"Everything the paper reports for {dataset}.", ["source", "row", "metric", "value"], every, True)
    )
    return parts


def setting_parts(groups: Sequence[RunGroup]) -> list[Any]:
    """What differs between the runs first, then what they share."""
    options = {group.label: group.options for group in groups}
    names = list(dict.fromkeys(name for own in options.values() for name in own))
    differing = [name for name in names if len({as_written(own.get(name)) for own in options.values()}) > 1]
    parts: list[Any] = []
    if len(groups) > 1 and differing:
        rows = [[name, *[setting(own, name) for own in options.values()]] for name in differing]
        parts.append(Table("Options in which the runs differ.", ["option", *options], rows))
    elif len(groups) > 1:
        parts.append(Text("The runs have the same options."))
    shared = [[name, as_written(options[groups[0].label][name])] for name in names if name not in differing]
    caption = "Options that all runs share; what is not listed is at its default."
    parts.append(Table(caption, ["option", "value"], shared, folded=len(groups) > 1))
    return parts


def setting(options: Mapping[str, Any], name: str) -> str:
    """A run's value of an option; a dash for an option of a modulation or a modality that the run lacks."""
    if name in options:
        return as_written(options[name])
    parent = ".".join(name.split(".")[:2])
    optional = name.startswith(("modulations.", "modalities.", "processors."))
    has_parent = any(other == parent or other.startswith(f"{parent}.") for other in options)
    return "-" if optional and not has_parent else "default"


def as_written(value: Any) -> str:
    """An option's value as YAML or JSON would write it."""
    return value if isinstance(value, str) else json.dumps(value, default=str)
