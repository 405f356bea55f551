"""What is compared: a recipe, or a method on a recipe, with its runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

PLAIN = "none"  # `Row.methods` without modulation


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

    @property
    def unit(self) -> str:
        """What an interval counts: `fold`, or `seed`."""
        return "fold" if self.folds else "seed"

    @property
    def units(self) -> list[int]:
        """The folds, or without any the seeds."""
        return self.folds or self.seeds

    def by_unit(self, metric: str) -> dict[int, float]:
        """The metric per seed, or the mean per fold, of the runs that have it."""
        return self.by_run(metric).groupby(level=self.unit, sort=False).mean().to_dict()

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
