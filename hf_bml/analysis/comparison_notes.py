"""What a reader of a comparison's table must know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .comparison_table import has_epoch_times, mean_cell
from .metric_names import lower_is_better, scale_and_digits, validation_metric
from .references import baseline_row, control_row
from .row import PLAIN, Row, row_overlap


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
