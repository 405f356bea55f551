"""Summaries of runs: one run's table, and several recipes over several seeds with paired differences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass
class PairedDifference:
    """Mean of paired differences with a 95 % Student-t interval; the interval is NaN for a single pair."""

    mean: float
    low: float
    high: float


def paired_difference(
    values: Sequence[float], baseline: Sequence[float], confidence: float = 0.95
) -> PairedDifference:
    """Difference of paired results, such as the same seeds of two recipes.

    Args:
        values: `(n,)`.
        baseline: `(n,)`, in the same order.
        confidence: in (0, 1).

    Raises:
        ValueError: the lengths differ or are 0.

    Example:
        >>> paired_difference([0.9, 0.8, 0.85], [0.8, 0.75, 0.8]).mean
        0.0666...
    """
    if len(values) != len(baseline) or len(values) == 0:
        raise ValueError(f"expected two equally long, non-empty sequences, found {len(values)} and {len(baseline)}.")
    differences = np.asarray(values, dtype=float) - np.asarray(baseline, dtype=float)
    mean = float(differences.mean())
    if len(differences) == 1:
        return PairedDifference(mean, float("nan"), float("nan"))
    standard_error = differences.std(ddof=1) / np.sqrt(len(differences))
    half = float(stats.t.ppf((1 + confidence) / 2, len(differences) - 1) * standard_error)
    return PairedDifference(mean, mean - half, mean + half)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table with aligned columns, without a final newline."""
    cells = [list(header), *[list(row) for row in rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def run_table(metrics: Mapping[str, float], ratios: Mapping[str, float]) -> str:
    """One run's end: test metrics and the final discrepancy ratios.

    Args:
        metrics: flat, with or without a split prefix; only numbers are shown.
        ratios: final discrepancy ratio per modality.
    """
    rows = [(name, f"{value:.0f}" if name.endswith("_classes") else f"{value:.4f}") for name, value in metrics.items()]
    rows += [(f"final discrepancy ratio {modality}", f"{value:.3f}") for modality, value in ratios.items()]
    return markdown_table(("quantity", "value"), rows)


def scale_and_digits(metric: str) -> tuple[int, int]:
    """What a table multiplies a metric's values by, and how many digits it shows after the point."""
    return (1, 2) if metric.startswith(("ratio", "seconds")) else (100, 1)


def recipe_table(results: Mapping[str, Sequence[Mapping[str, float]]], columns: Sequence[str], compare: str) -> str:
    """Recipes by metrics over seeds: mean +- standard deviation (n - 1), and the paired difference to the first.

    Values are shown times 100, except those whose name starts with `ratio` or `seconds`.

    Args:
        results: per recipe one metrics mapping per seed, seeds in the same order everywhere.
        columns: metric names to show; a recipe that lacks one gets a dash.
        compare: the metric of the paired difference; a dash where a recipe lacks it.
    """
    baseline = next(iter(results.values()))
    header = ["recipe", "seeds", *columns, f"{compare}: difference to {next(iter(results))} [95 % interval]"]
    rows = []
    for recipe, runs in results.items():
        row = [recipe, str(len(runs))]
        for column in columns:
            values = np.asarray([run[column] for run in runs if column in run], dtype=float)
            scale, digits = scale_and_digits(column)
            if len(values) == 0:
                row.append("-")
            else:
                spread = f" ± {scale * values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
                row.append(f"{scale * values.mean():.{digits}f}{spread}")
        if runs is baseline:
            row.append("")
        elif all(compare in run for run in [*runs, *baseline]):
            scale, digits = scale_and_digits(compare)
            difference = paired_difference([run[compare] for run in runs], [run[compare] for run in baseline])
            mean, low, high = (
                f"{scale * value:+.{digits}f}" for value in (difference.mean, difference.low, difference.high)
            )
            row.append(f"{mean} [{low}, {high}]")
        else:
            row.append("-")
        rows.append(row)
    return markdown_table(header, rows)
