"""How results depend on options (paper Fig. 9, Table 1): chosen on validation, test shown beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .comparison_csv import mean_record
from .comparison_table import mean_cell
from .metric_names import lower_is_better, metric_names, shown_metrics, validation_metric
from .references import best_row
from .row import Row
from .summary import markdown_table

CHOSEN = "chosen"  # the last column of a sensitivity's table, which no other table has


@dataclass
class Sweep:
    """Every combination of the values of some options.

    Attributes:
        options: the values per option, in the order of the command line; names as a recipe has them, dots included.
        settings: one mapping from option to value per combination.
        rows: the runs of each setting, in the same order.
        baseline: runs without modulation, if there are any.
    """

    options: dict[str, list[Any]]
    settings: list[dict[str, Any]] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    baseline: Row | None = None

    @property
    def settings_and_rows(self) -> list[tuple[dict[str, Any], Row]]:
        """Every row with its setting; the baseline, if there is one, comes first and has none."""
        first = [] if self.baseline is None else [({}, self.baseline)]
        return first + list(zip(self.settings, self.rows, strict=True))

    def row(self, **setting: Any) -> Row:
        """The row of one setting."""
        return self.rows[self.settings.index(setting)]


def short_names(options: Sequence[str]) -> dict[str, str]:
    """The last part of each dotted name, or as many as it takes to tell them apart.

    Example:
        >>> short_names(["modulations.opm.lam", "modulations.opm.start", "modulations.ogm.start"])
        {'modulations.opm.lam': 'lam', 'modulations.opm.start': 'opm.start', 'modulations.ogm.start': 'ogm.start'}
    """
    names = {}
    for option in options:
        parts = option.split(".")
        endings = [".".join(parts[-length:]) for length in range(1, len(parts) + 1)]
        alone = [ending for ending in endings if sum(f".{other}".endswith(f".{ending}") for other in options) == 1]
        names[option] = alone[0] if alone else option
    return names


def sensitivity_table(sweep: Sweep, metric: str) -> str:
    """A line per setting: validation (for choosing) and test, mean ± standard deviation over seeds.

    Args:
        sweep: all rows have runs.
        metric: of the choice; its validation and test values come first.
    """
    key = validation_metric(sweep.rows, metric)
    metrics = list(
        dict.fromkeys([key, metric, *[m for m in shown_metrics(sweep.rows) if not m.startswith("validation_")]])
    )
    chosen = best_row(sweep.rows, metric)
    names = short_names(list(sweep.options))
    header = [*names.values(), "seeds", *metrics, CHOSEN]
    body = []
    for setting, row in sweep.settings_and_rows:
        values = [str(setting[option]) for option in names] if setting else [row.label] + [""] * (len(names) - 1)
        results = [mean_cell(row, name) for name in metrics]
        body.append([*values, str(len(row.runs)), *results, "best validation" if row is chosen else ""])
    return markdown_table(header, body)


def sensitivity_notes(sweep: Sweep, metric: str) -> list[str]:
    """What a reader of the table must know, a sentence or two each."""
    key = validation_metric(sweep.rows, metric)
    chosen = best_row(sweep.rows, metric)
    seeds = ", ".join(str(run["seed"]) for run in chosen.runs)
    lowest = " (the lowest)" if lower_is_better(key) else ""
    notes = [
        f"Mean ± standard deviation over seeds ({seeds}); accuracies, mAP and F1 times 100. Metrics without prefix "
        f"are of the test split; the choice looks at {key} alone.",
        f"Best {key}{lowest}: {chosen.label}, {mean_cell(chosen, key)}; its test {metric} is "
        f"{mean_cell(chosen, metric)}.",
    ]
    spread = chosen.spread(key)
    if math.isnan(spread):
        notes.append("One seed: how much of the differences is chance is not known. Give several --seeds.")
    else:
        near = [row for row in sweep.rows if abs(row.mean(key) - chosen.mean(key)) <= spread]
        notes.append(
            f"{len(near)} of {len(sweep.rows)} settings, the best included, are within one standard deviation of it."
        )
    return notes


def sensitivity_records(sweep: Sweep) -> list[dict[str, Any]]:
    """One mapping per setting with the means and standard deviations of everything that is known; unscaled."""
    names = metric_names(row for _, row in sweep.settings_and_rows)
    return [
        {**describe(setting, sweep), "seeds": len(row.runs), **mean_record(row, names)}
        for setting, row in sweep.settings_and_rows
    ]


def sensitivity_runs(sweep: Sweep) -> list[dict[str, Any]]:
    """One mapping per run."""
    return [{**describe(setting, sweep), **run} for setting, row in sweep.settings_and_rows for run in row.runs]


def describe(setting: Mapping[str, Any], sweep: Sweep) -> dict[str, Any]:
    """The value of every varied option; empty for the baseline."""
    return {option: setting.get(option, "") for option in sweep.options}
