"""What is left of a model when a modality is missing or noisy, in a few numbers.

Corruptions of two kinds are not equally severe, so that an average of them depends on which were taken: averages are
told with their kinds beside them, and every kind is kept by itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from .comparison import MEASURED, Row, reference_row

VALIDATION = f"validation_{MEASURED}"
SUMMARY = ("missing_average", "dominant_noisy", "others_noisy", "worst", "ece_clean", "ece_noisy")
COLUMNS = tuple(f"{MEASURED}{name}" for name in SUMMARY)  # of a table, beside the accuracy


@dataclass(frozen=True)
class Condition:
    """A model's results on a split under one condition.

    Attributes:
        kind: `clean`, `missing` or `noisy`.
        accuracy: in [0, 1].
        ece: expected calibration error in [0, 1].
        n: predictions.
        modalities: those that are missing, or the one that is noisy.
        corruption: its name, of noisy ones.
        options: of the corruption.
        label: of the corruption with its severity.
        seen: whether training saw this kind of corruption of this modality.
    """

    kind: str
    accuracy: float
    ece: float
    n: int
    modalities: tuple[str, ...] = ()
    corruption: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""
    seen: bool = False


def conditions_of(found: Mapping[str, Any]) -> list[Condition]:
    """The conditions of what `robustness_<split>.json` holds."""
    return [Condition(**{**one, "modalities": tuple(one["modalities"])}) for one in found["conditions"]]


def noisy_by_type(conditions: Iterable[Condition]) -> dict[str, dict[str, float]]:
    """Accuracy by noisy modality and kind of corruption, of which the severities count alike."""
    found: dict[str, dict[str, list[float]]] = {}
    for one in conditions:
        if one.kind == "noisy":
            found.setdefault(one.modalities[0], {}).setdefault(one.corruption, []).append(one.accuracy)
    return {modality: {name: fmean(own) for name, own in types.items()} for modality, types in found.items()}


def robustness_summary(conditions: Sequence[Condition], dominant: str | None = None) -> dict[str, float]:
    """The few numbers; what nothing was measured for is left out.

    Args:
        conditions: with a clean one.
        dominant: see `dominant_modality`.

    Returns:
        accuracies `clean`, `missing_average` over single missing modalities, `dominant_noisy` (of the dominant
        modality, over its kinds of corruption, each of which counts once), `others_noisy` (of all others, each of
        which counts once), `worst` of all conditions with a single missing or noisy modality; `ece_clean` and
        `ece_noisy`, over noisy conditions; and what these were made of, `missing_<modality>`, `missing_<a>+<b>`,
        `noisy_<modality>`, and `noisy_<modality>/<corruption>` over its severities.

    Raises:
        ValueError: no clean condition.

    Example:
        >>> clean, noisy = Condition("clean", 0.9, 0.1, 10), Condition("noisy", 0.5, 0.3, 10, ("a",), "blur")
        >>> robustness_summary([clean, noisy], "a")["dominant_noisy"]
        0.5
    """
    clean = [one for one in conditions if one.kind == "clean"]
    if not clean:
        raise ValueError("expected a clean condition, found none.")
    missing = [one for one in conditions if one.kind == "missing"]
    noisy = [one for one in conditions if one.kind == "noisy"]
    single = [one for one in missing if len(one.modalities) == 1]
    found = {"clean": clean[0].accuracy}
    if single:
        found["missing_average"] = fmean(one.accuracy for one in single)
    if single or noisy:
        found["worst"] = min(one.accuracy for one in [*single, *noisy])
    found["ece_clean"] = clean[0].ece
    if noisy:
        found["ece_noisy"] = fmean(one.ece for one in noisy)
    found |= {f"missing_{'+'.join(one.modalities)}": one.accuracy for one in missing}
    for modality, types in noisy_by_type(noisy).items():
        found[f"noisy_{modality}"] = fmean(types.values())
        found |= {f"noisy_{modality}/{name}": value for name, value in types.items()}
    return found | by_dominance(found, dominant)


def by_dominance(
    summary: Mapping[str, float], dominant: str | None, prefix: str = "", absent: Iterable[str] = ()
) -> dict[str, float]:
    """`dominant_noisy` and `others_noisy`, as far as they are known, from `noisy_<modality>`.

    Args:
        summary: names may have a prefix.
        dominant: the modality; None: neither is known.
        prefix: of the names.
        absent: modalities that the model does not have: noise does not reach it, and its accuracy is that of clean
            data.
    """
    noisy = {modality: summary[f"{prefix}noisy_{modality}"] for modality in noisy_modalities(summary, prefix)}
    noisy |= dict.fromkeys(absent, summary[f"{prefix}clean"]) if absent else {}
    others = [value for modality, value in noisy.items() if modality != dominant]
    found = {f"{prefix}dominant_noisy": noisy[dominant]} if dominant in noisy else {}
    return found | ({f"{prefix}others_noisy": fmean(others)} if others and dominant is not None else {})


def noisy_modalities(summary: Mapping[str, float], prefix: str = "") -> list[str]:
    """The modalities whose noise was measured."""
    start = f"{prefix}noisy_"
    return [name.removeprefix(start) for name in summary if name.startswith(start) and "/" not in name[len(start) :]]


def dominant_modality(without: Mapping[str, float]) -> str | None:
    """The modality whose absence costs most; of equal ones the first, None for a single modality.

    Args:
        without: accuracy on the validation split without each modality.
    """
    return min(without, key=lambda modality: without[modality]) if without else None


def with_common_dominant(rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """The rows with `dominant_noisy` and `others_noisy` by one choice of the dominant modality per recipe.

    The choice is that of the row which the others are compared to, over all its runs, on validation; where nothing
    was measured there, of the first row that has it.

    Returns:
        the rows, and a sentence or two a recipe on what was averaged; none where no robustness was measured.
    """
    found: list[Row] = []
    notes: dict[str, list[str]] = {}
    for row in rows:
        same = [other for other in rows if other.recipe == row.recipe]
        reference = next((r for r in [reference_row(row, rows), *same] if validation_without(r)), None)
        dominant = None if reference is None else dominant_modality(validation_without(reference))
        if dominant is not None:
            every = list(types_of(run for other in same for run in other.runs))
            row = replace(row, runs=[with_dominant(run, dominant, every) for run in row.runs])
        found.append(row)
        if any(name.startswith(MEASURED) for run in row.runs for name in run):
            notes.setdefault(row.recipe, dominance_notes(reference, dominant, same))
    alike = len({tuple(own) for own in notes.values()}) == 1
    if alike:
        return found, next(iter(notes.values()))
    return found, [f"{recipe}: {' '.join(own)}" if recipe else " ".join(own) for recipe, own in notes.items()]


def with_dominant(run: Mapping[str, Any], dominant: str, modalities: Iterable[str]) -> dict[str, Any]:
    """A run's entries with those that depend on which modality is dominant made anew.

    Args:
        run: of a row.
        dominant: the modality.
        modalities: all that are noisy for any row; see `absent` of `by_dominance`.
    """
    changed = dict(run)
    for prefix in (MEASURED, VALIDATION):
        for name in ("dominant_noisy", "others_noisy"):
            changed.pop(f"{prefix}{name}", None)
        own = noisy_modalities(run, prefix)
        absent = [name for name in modalities if name not in own] if own else []
        changed |= by_dominance(run, dominant, prefix, absent)
    return changed


def validation_without(row: Row) -> dict[str, float]:
    """A row's mean accuracy on validation without each modality."""
    start = f"{VALIDATION}missing_"
    names = dict.fromkeys(name for run in row.runs for name in run if name.startswith(start))
    single = [name for name in names if name != f"{start}average" and "+" not in name[len(start) :]]
    return {name.removeprefix(start): row.mean(name) for name in single}


def dominance_notes(reference: Row | None, dominant: str | None, rows: Sequence[Row]) -> list[str]:
    """Which modality is dominant and why, what was averaged, and rows that lack something."""
    notes = []
    if reference is not None and dominant is not None:
        cost = 100 * (reference.mean(f"{VALIDATION}clean") - validation_without(reference)[dominant])
        notes.append(
            f"Dominant for all rows: {dominant}, whose absence costs {reference.label} most on validation "
            f"({cost:.1f} points)."
        )
    types = types_of(run for row in rows for run in row.runs)
    if types:
        listing = "; ".join(f"{modality}: {', '.join(names)}" for modality, names in types.items())
        notes.append(f"Noise ({listing}): each kind is first averaged over its severities.")
    lacking = [row.label for row in rows if row.runs and f"{MEASURED}missing_average" not in row.runs[0]]
    if lacking:
        notes.append(
            f"{', '.join(lacking)}: a single modality, without which nothing is left; noise of another one does not "
            "reach it, and counts as clean accuracy."
        )
    return notes


def types_of(runs: Iterable[Mapping[str, Any]], prefix: str = MEASURED) -> dict[str, list[str]]:
    """The kinds of corruption by modality that any run was measured with."""
    found: dict[str, dict[str, None]] = {}
    start = f"{prefix}noisy_"
    for name in (name for run in runs for name in run if name.startswith(start)):
        modality, slash, kind = name.removeprefix(start).partition("/")
        if slash:
            found.setdefault(modality, {})[kind] = None
    return {modality: list(kinds) for modality, kinds in found.items()}


def shown_columns(rows: Iterable[Row]) -> list[str]:
    """Those of `COLUMNS` that any run has."""
    names = {name for row in rows for run in row.runs for name in run}
    return [name for name in COLUMNS if name in names]


def change(value: float, clean: float) -> str:
    """The difference to clean data in points; empty where there is none to speak of."""
    return "" if math.isclose(value, clean) else f"{100 * (value - clean):+.1f}"
