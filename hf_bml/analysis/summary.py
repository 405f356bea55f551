"""Tables in Markdown, one run's table, and the paired difference of two series of runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass
class PairedDifference:
    """Mean of paired differences with a 95 % Student-t interval.

    The interval is NaN where nothing is known of the noise: for a single pair, and for pairs that all differ alike.
    """

    mean: float
    low: float
    high: float


def paired_difference(
    values: Sequence[float], baseline: Sequence[float], confidence: float = 0.95, overlap: float = 0.0
) -> PairedDifference:
    """Difference of paired results, such as the same seeds or folds of two recipes.

    The interval is `mean +- t(n - 1) s sqrt(1 / n + overlap)`. Results of trainings that share rows are correlated;
    with a correlation rho an unbiased estimate of the mean's variance has `overlap = rho / (1 - rho)` (Nadeau and
    Bengio, "Inference for the Generalization Error", 2003: rows of the test split by those of training).

    Args:
        values: `(n,)`.
        baseline: `(n,)`, in the same order.
        confidence: in (0, 1).
        overlap: at least 0; 0 for independent pairs.

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
    rounding = 1e-9 * max(np.abs(values).max(), np.abs(baseline).max())
    if np.ptp(differences) <= rounding:
        return PairedDifference(mean, float("nan"), float("nan"))
    standard_error = differences.std(ddof=1) * np.sqrt(1 / len(differences) + overlap)
    half = float(stats.t.ppf((1 + confidence) / 2, len(differences) - 1) * standard_error)
    return PairedDifference(mean, mean - half, mean + half)


def percent(value: float | None) -> str:
    """A fraction times 100 with one digit; a dash for None."""
    return "-" if value is None else f"{100 * value:.1f}"


def median_after_warm_up(seconds: Sequence[float], warm_up: int = 1) -> float | None:
    """Median of the epochs after the first `warm_up`, in seconds; None if there are none.

    Example:
        >>> median_after_warm_up([9.0, 2.0, 3.0, 2.5])
        2.5
    """
    rest = list(seconds)[warm_up:]
    return float(np.median(rest)) if rest else None


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table with aligned columns, without a final newline."""
    cells = [list(header), *[list(row) for row in rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def read_markdown_table(text: str) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a table that `markdown_table` wrote; no cell holds a `|`.

    Example:
        >>> read_markdown_table(markdown_table(["a", "b"], [["1", ""]]))
        (['a', 'b'], [['1', '']])
    """
    header, _, *rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in text.splitlines()]
    return header, rows


def run_table(metrics: Mapping[str, float], ratios: Mapping[str, float]) -> str:
    """One run's end: test metrics and the final discrepancy ratios.

    Args:
        metrics: flat, with or without a split prefix; only numbers are shown.
        ratios: final discrepancy ratio per modality.
    """
    rows = [(name, f"{value:.0f}" if name.endswith("_classes") else f"{value:.4f}") for name, value in metrics.items()]
    rows += [(f"final discrepancy ratio {modality}", f"{value:.3f}") for modality, value in ratios.items()]
    return markdown_table(("quantity", "value"), rows)
