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

import numpy as np

from .metric_names import MEASURED
from .predictions import Predictions
from .references import reference_row
from .row import Row

VALIDATION = f"validation_{MEASURED}"
SUMMARY = ("missing_average", "dominant_noisy", "others_noisy", "worst", "ece_clean", "ece_noisy")
PROBE = "probe_"
WEAK_PROBE = f"{PROBE}weak"
COLUMNS = tuple(f"{MEASURED}{name}" for name in (*SUMMARY, WEAK_PROBE))  # of a table, beside the accuracy


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
        votes: see `vote_sizes`; empty where the joint logits are not the sum of what each modality predicts.
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
    votes: Mapping[str, float] = field(default_factory=dict)


def vote_sizes(found: Predictions) -> dict[str, float]:
    """How loud each modality is: the mean, over the rows that have it, of the Euclidean norm of its logits.

    The logits are centred over the classes first, as a constant moves no decision. Modalities that no row has are left
    out.
    """
    sizes = {}
    for modality, logits in found.unimodal_logits.items():
        own = logits[found.present[modality]]
        if len(own):
            sizes[modality] = float(np.linalg.norm(own - own.mean(axis=1, keepdims=True), axis=1).mean())
    return sizes


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


def weak_modality(modalities: Iterable[str], dominant: str | None, without: Mapping[str, float]) -> str | None:
    """The modality whose absence costs least, never the dominant one; None if nothing says which.

    Args:
        modalities: of the model.
        dominant: see `dominant_modality`.
        without: as there; empty if nothing was measured: then the other one of two is known.
    """
    others = [modality for modality in modalities if modality != dominant and (not without or modality in without)]
    return others[0] if len(others) == 1 else max(others, key=without.get) if others and without else None


def probe_summary(accuracies: Mapping[str, float], weak: str | None) -> dict[str, float]:
    """`probe_<modality>`, the accuracy of a linear probe of its encoder, and `probe_weak`, that of the weak one's.

    Example:
        >>> probe_summary({"audio": 0.9, "visual": 0.4}, "visual")
        {'probe_audio': 0.9, 'probe_visual': 0.4, 'probe_weak': 0.4}
    """
    found = {f"{PROBE}{modality}": value for modality, value in accuracies.items()}
    return found | ({WEAK_PROBE: accuracies[weak]} if weak in accuracies else {})


def with_common_dominant(rows: Sequence[Row], dominant: str | None = None) -> tuple[list[Row], list[str]]:
    """The rows with `dominant_noisy`, `others_noisy` and `probe_weak` by one choice of these modalities per recipe.

    The choice is that of the row which the others are compared to, over all its runs, on validation; where nothing
    was measured there, of the first row that has it.

    Args:
        rows: stay as they are.
        dominant: the dominant modality, instead of that choice.

    Returns:
        the rows, and a sentence or two a recipe on what was averaged; none where no robustness was measured.
    """
    found: list[Row] = []
    notes: dict[str, list[str]] = {}
    for row in rows:
        same = [other for other in rows if other.recipe == row.recipe]
        reference = next((r for r in [reference_row(row, rows), *same] if validation_without(r)), None)
        without = {} if reference is None else validation_without(reference)
        strong = dominant or dominant_modality(without)
        weak = weak_modality(without or probed_modalities(same), strong, without)
        if strong is not None:
            every = list(types_of(run for other in same for run in other.runs))
            row = replace(row, runs=[with_modalities(run, strong, weak, every) for run in row.runs])
        found.append(row)
        if any(name.startswith(MEASURED) for run in row.runs for name in run):
            own = [f"Dominant: {dominant}, as given."] if dominant else []
            notes.setdefault(row.recipe, [*own, *dominance_notes(reference, None if dominant else strong, weak, same)])
    alike = len({tuple(own) for own in notes.values()}) == 1
    if alike:
        return found, next(iter(notes.values()))
    return found, [f"{recipe}: {' '.join(own)}" if recipe else " ".join(own) for recipe, own in notes.items()]


def with_modalities(
    run: Mapping[str, Any], dominant: str, weak: str | None, modalities: Iterable[str]
) -> dict[str, Any]:
    """A run's entries with those that depend on which modality is dominant and which is weak made anew.

    Args:
        run: of a row.
        dominant, weak: the modalities.
        modalities: all that are noisy for any row; see `absent` of `by_dominance`.
    """
    changed = {name: value for name, value in run.items() if name != f"{MEASURED}{WEAK_PROBE}"}
    if f"{MEASURED}{PROBE}{weak}" in run:
        changed[f"{MEASURED}{WEAK_PROBE}"] = run[f"{MEASURED}{PROBE}{weak}"]
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


def probed_modalities(rows: Iterable[Row]) -> list[str]:
    """The modalities whose encoder was probed in any run."""
    start = f"{MEASURED}{PROBE}"
    names = dict.fromkeys(name for row in rows for run in row.runs for name in run if name.startswith(start))
    return [name.removeprefix(start) for name in names if name != f"{MEASURED}{WEAK_PROBE}"]


def dominance_notes(reference: Row | None, dominant: str | None, weak: str | None, rows: Sequence[Row]) -> list[str]:
    """Which modality is dominant, which one is weak, and why, what was averaged, and rows that lack something."""
    without = {} if reference is None else validation_without(reference)
    notes = []

    def cost(modality: str) -> str:
        return f"({100 * (reference.mean(f'{VALIDATION}clean') - without[modality]):.1f} points)"

    if dominant in without:
        notes.append(
            f"Dominant for all rows: {dominant}, whose absence costs {reference.label} most on validation "
            f"{cost(dominant)}."
        )
    if weak is not None and probed_modalities(rows):
        why = f", whose absence costs least {cost(weak)}" if weak in without else ""
        notes.append(
            f"Weak for all rows: {weak}{why}; {WEAK_PROBE}: the accuracy of a linear probe of its encoder's features."
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
