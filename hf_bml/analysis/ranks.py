"""Methods over several data sets by their ranks (Demšar, "Statistical Comparisons of Classifiers over Multiple Data
Sets", JMLR 2006): Friedman's test, Nemenyi's critical difference, and Wilcoxon's test with Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from .metric_names import lower_is_better
from .pooled import method_names
from .references import is_control, reference_row
from .row import Row
from .summary import markdown_table

LEAST_SETS = 3  # of a test
LEAST_METHODS = 3  # of Friedman's
LEVEL = 0.05


@dataclass
class Ranks:
    """What `rank_methods` finds.

    Attributes:
        mean_ranks: by method, best first; 1 is the best rank.
        sets: the data sets that were ranked.
        left_out: methods that lack a set.
        control: the method that the others are tested against; None where it is not known on every set.
        friedman: Friedman's chi-squared and its p; None for fewer than three sets or methods.
        critical_difference: Nemenyi's, of two mean ranks at the level 0.05; None like `friedman`.
        p_values: Wilcoxon's of each method against the control, two-sided; empty for fewer than three sets.
        adjusted: the same by Holm.
    """

    mean_ranks: dict[str, float]
    sets: list[str]
    left_out: list[str]
    control: str | None
    friedman: tuple[float, float] | None
    critical_difference: float | None
    p_values: dict[str, float]
    adjusted: dict[str, float]


def rank_methods(rows: Sequence[Row], metric: str, control: str | None = None) -> Ranks | None:
    """Ranks the methods that every data set has by their means over its runs.

    Args:
        rows: of one method, several of one set count as their mean; see `method_names`.
        metric: what is ranked.
        control: see `is_control`, of several the one with the best mean rank; None for the reference, `none`.

    Returns:
        None for a single data set, or fewer than two methods that each has.
    """
    records = [
        {"method": name, "dataset": row.dataset, "value": row.mean(metric)}
        for row, name in zip(rows, method_names(rows), strict=True)
    ]
    table = pd.DataFrame(records).pivot_table(
        "value", "dataset", "method", aggfunc=lambda values: values.mean(skipna=False), sort=False, dropna=False
    )
    table = table.reindex(columns=list(dict.fromkeys(record["method"] for record in records)))
    complete = table.dropna(axis="columns")
    if len(complete) < 2 or len(complete.columns) < 2:
        return None
    means = mean_ranks(complete.to_numpy(), lower_is_better(metric))
    ranks = dict(sorted(zip(complete.columns, means.tolist(), strict=True), key=lambda item: item[1]))
    reference = reference_row(rows[0], rows)
    wanted = {
        name
        for row, name in zip(rows, method_names(rows), strict=True)
        if (row is reference if control is None else is_control(row, control))
    }
    chosen = next((name for name in ranks if name in wanted), None)
    p_values = {}
    if chosen is not None and len(complete) >= LEAST_SETS:
        others = [name for name in ranks if name != chosen]
        p_values = {name: wilcoxon(complete[name], complete[chosen]) for name in others}
    is_tested = len(complete) >= LEAST_SETS and len(ranks) >= LEAST_METHODS
    return Ranks(
        ranks,
        list(complete.index),
        [name for name in table.columns if name not in ranks],
        chosen,
        friedman(complete.to_numpy()) if is_tested else None,
        critical_difference(len(ranks), len(complete)) if is_tested else None,
        p_values,
        dict(zip(p_values, holm(list(p_values.values())), strict=True)),
    )


def mean_ranks(values: np.ndarray, lower_is_better: bool = False) -> np.ndarray:
    """Mean rank over sets of each method, `(methods,)`; 1 is the best, and equal values share their mean rank.

    Args:
        values: `(sets, methods)`.
        lower_is_better: whether the least value is the best.

    Example:
        >>> mean_ranks(np.array([[0.9, 0.7, 0.7], [0.6, 0.8, 0.5]])).tolist()
        [1.5, 1.75, 2.75]
    """
    return stats.rankdata(values if lower_is_better else -values, axis=1).mean(axis=0)


def friedman(values: np.ndarray) -> tuple[float, float]:
    """Friedman's chi-squared, corrected for ties, and its p, that of chi-squared; 0 and 1 where all methods are equal.

    Args:
        values: `(sets, methods)`, at least three methods.
    """
    if not np.ptp(values, axis=1).any():
        return 0.0, 1.0
    found = stats.friedmanchisquare(*values.T)
    return float(found.statistic), float(found.pvalue)


def critical_difference(methods: int, sets: int, level: float = LEVEL) -> float:
    """Nemenyi's: mean ranks that differ by at least so much differ at the level.

    Example:
        >>> round(critical_difference(methods=4, sets=14), 2)  # Demšar's table 6: 2.569 sqrt(4 * 5 / (6 * 14))
        1.25
    """
    quantile = stats.studentized_range.ppf(1 - level, methods, np.inf) / math.sqrt(2)
    return float(quantile * math.sqrt(methods * (methods + 1) / (6 * sets)))


def wilcoxon(values: Sequence[float], others: Sequence[float]) -> float:
    """The two-sided p of Wilcoxon's signed-rank test; sets without a difference are left out, p is 1 without others.

    The distribution is the exact one without ties, so with n differences p is at least 2 / 2^n.
    """
    differences = np.asarray(values, dtype=float) - np.asarray(others, dtype=float)
    differences = differences[differences != 0]
    return float(stats.wilcoxon(differences, method="exact").pvalue) if len(differences) else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """p values that are corrected for their number, in the same order.

    Example:
        >>> holm([0.04, 0.01, 0.03])
        [0.06, 0.03, 0.06]
    """
    corrected, largest = [0.0] * len(p_values), 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[index]))
        corrected[index] = largest
    return corrected


def not_told_apart(ranks: Mapping[str, float], difference: float) -> list[list[str]]:
    """The largest groups of at least two methods whose mean ranks differ by less than a critical difference.

    Args:
        ranks: sorted.
        difference: see `critical_difference`.

    Example:
        >>> not_told_apart({"a": 1.0, "b": 1.5, "c": 2.2, "d": 4.0}, 1.0)
        [['a', 'b'], ['b', 'c']]
    """
    groups: list[list[str]] = []
    for first, low in ranks.items():
        group = [name for name, rank in ranks.items() if rank >= low and rank - low < difference]
        group = group[group.index(first) :]
        if len(group) > 1 and not (groups and set(group) <= set(groups[-1])):
            groups.append(group)
    return groups


def ranks_text(ranks: Ranks, metric: str) -> str:
    """The ranks and tests in Markdown, and what they are."""
    header = ["method", f"mean rank by {metric}"]
    lines = [[name, f"{rank:.2f}"] for name, rank in ranks.mean_ranks.items()]
    if ranks.p_values:
        header += [f"Wilcoxon's p against {ranks.control}", "p by Holm"]
        for line in lines:
            tests = (ranks.p_values.get(line[0]), ranks.adjusted.get(line[0]))
            line += ["" if p is None else p_text(p) for p in tests]
    return "\n\n".join([markdown_table(header, lines), *rank_notes(ranks)])


def rank_notes(ranks: Ranks) -> list[str]:
    """What a reader of the ranks must know, a sentence or two each."""
    sets, methods = len(ranks.sets), len(ranks.mean_ranks)
    notes = [f"Mean ranks of {methods} methods over {sets} data sets ({', '.join(ranks.sets)}): 1 is the best."]
    if ranks.left_out:
        notes.append(f"Not ranked, as not every data set has them: {', '.join(ranks.left_out)}.")
    if sets < LEAST_SETS:
        notes.append(f"{sets} data sets are too few for a test; it takes at least {LEAST_SETS}.")
        return notes
    if ranks.friedman is None:
        notes.append(f"{methods} methods are too few for Friedman's test; it takes at least {LEAST_METHODS}.")
    else:
        statistic, p = ranks.friedman
        verdict = (
            f"Two methods differ at the level {LEVEL} if their mean ranks do by {ranks.critical_difference:.2f} "
            "(Nemenyi's critical difference)."
            if p < LEVEL
            else f"No difference between the methods is shown at the level {LEVEL}, so that Nemenyi's critical "
            f"difference of two mean ranks, {ranks.critical_difference:.2f}, tells none apart either."
        )
        freedom = f"{methods - 1} degrees of freedom"
        notes.append(f"Friedman's test: chi-squared {statistic:.2f} with {freedom}, p {p_text(p)}. {verdict}")
    if ranks.p_values:
        tests, least = len(ranks.p_values), 2 / 2**sets
        notes.append(
            f"Wilcoxon's signed-rank test, two-sided and exact, of each method's means against those of "
            f"{ranks.control}; Holm's correction is for {tests} tests."
        )
        if tests * least >= LEVEL:
            notes.append(
                f"Whatever the differences, over {sets} data sets p is at least {p_text(least)}, and the least by "
                f"Holm at least {p_text(min(1.0, tests * least))}: too few sets to show one of so many at the level "
                f"{LEVEL}."
            )
    elif ranks.control is None:
        notes.append("No test against a control: not every data set has one of the same name.")
    return notes


def p_text(p: float) -> str:
    """Three digits after the point.

    Example:
        >>> p_text(0.0625), p_text(0.0001)
        ('0.062', '< 0.001')
    """
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
