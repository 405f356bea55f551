"""What results mean, in plain words: who dominates, what a method changed, and whether seeds can tell."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from ..analysis.references import difference
from ..analysis.row import Row

BALANCED_UP_TO = 1.1  # discrepancy ratio
BEHIND = 0.03  # share of samples by which an encoder must be worse than one trained alone to be called so
JUDGED_FROM = 3  # seeds or folds; Student's interval of two pairs rests on one degree of freedom


@dataclass
class Evidence:
    """What a verdict rests on.

    Attributes:
        row: the runs' flat results.
        modalities: the model's, in its order.
        probes: final probe accuracy by seed or fold, per modality; those of runs that are compared were all made
            alike. Empty where no probe was made.
        probed_on: the split of the probes.
        alone: accuracy of the same probe on a model trained on the modality alone; may be empty.
        alone_test: test accuracy of such a model itself, which is another measure than a probe's; may be empty.
        samples: of the test split; None if not known.
        robust: the results of the runs whose robustness was measured, that among them; None without any.
    """

    row: Row
    modalities: list[str]
    probes: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    probed_on: str = ""
    alone: Mapping[str, float] = field(default_factory=dict)
    alone_test: Mapping[str, float] = field(default_factory=dict)
    samples: int | None = None
    robust: Row | None = None

    def over(self, units: Collection[int]) -> Evidence:
        """The same of some seeds, or folds, only."""
        probes = {m: {unit: v for unit, v in own.items() if unit in units} for m, own in self.probes.items()}
        row, robust = (
            known and replace(known, runs=[run for run in known.runs if run[known.unit] in units])
            for known in (self.row, self.robust)
        )
        return replace(self, row=row, robust=robust, probes={modality: own for modality, own in probes.items() if own})

    def ratios(self) -> dict[str, float]:
        """Mean discrepancy ratio of the last log per modality, where it was logged."""
        found = {modality: self.row.mean(f"ratio_{modality}") for modality in self.modalities}
        return {modality: ratio for modality, ratio in found.items() if not math.isnan(ratio)}

    def dominant(self) -> str | None:
        """The modality with the largest ratio; None for one modality or without ratios."""
        ratios = self.ratios()
        return max(ratios, key=lambda modality: ratios[modality]) if len(ratios) > 1 else None


def verdict(run: Evidence, first: Evidence | None = None) -> list[str]:
    """Sentences about a run, and against the first one, over the seeds or folds that both have.

    Args:
        run: what is known of it.
        first: of the run that it is compared to; None for the first itself, or for other data.
    """
    sentences = []
    common = set(run.row.units) & set(first.row.units) if first is not None else set()
    if common and (left_out := set(run.row.units) ^ set(first.row.units)):
        also = "" if len(left_out) == 1 else "s"
        sentences.append(
            f"Over the {counted(len(common), run.row)} in common with {first.row.label}; {len(left_out)} other{also} "
            "left out."
        )
    if common:
        run, first = run.over(common), first.over(common)
    robust = robustness_sentences(run, first)
    if math.isnan(run.row.mean("accuracy")):
        accuracy = error_sentence(run, first)
    elif first is None:
        accuracy = f"Test accuracy {percent(run.row.mean('accuracy'))}{spread_text(run)}."
    else:
        accuracy = accuracy_sentence(run, first)
    balance = balance_sentence(run, first)
    sentences += [*robust, f"Clean: {accuracy}", balance] if robust else [balance, accuracy]
    sentences += encoder_sentences(run, first)
    return [sentence for sentence in sentences if sentence]


def balance_sentence(run: Evidence, first: Evidence | None) -> str:
    """Who dominates by the discrepancy ratio at the end of training."""
    ratios, leader = run.ratios(), run.dominant()
    if leader is None:
        return f"One modality, {run.modalities[0]}: nothing to balance." if len(run.modalities) == 1 else ""
    ratio = ratios[leader]
    before = first.ratios() if first is not None else {}
    old_leader = first.dominant() if first is not None else None
    if ratio <= BALANCED_UP_TO:
        text = f"Balanced at the end of training: the largest discrepancy ratio is {ratio:.2f} ({leader})"
    else:
        others = ", ".join(f"{name} {value:.2f}" for name, value in ratios.items() if name != leader)
        text = f"{sentence_case(leader)} dominates at the end of training: discrepancy ratio {ratio:.2f} ({others})"
    if old_leader is not None and before[old_leader] > BALANCED_UP_TO and old_leader in ratios:
        text += f"; the ratio of {old_leader} went {before[old_leader]:.2f} → {ratios[old_leader]:.2f}"
    return text + "."


ROBUST = {"robust/missing_average": "One modality missing", "robust/dominant_noisy": "Dominant modality noisy"}


def robustness_sentences(run: Evidence, first: Evidence | None) -> list[str]:
    """What is left without a modality and under noise, and against the first run; empty if that was not measured."""
    if run.robust is None or not run.robust.runs:
        return []
    sentences = []
    for metric, name in ROBUST.items():
        value = run.robust.mean(metric)
        if first is not None and first.robust is not None and not math.isnan(value):
            ours, theirs = (replace(one, row=one.robust, samples=None) for one in (run, first))
            sentences.append(accuracy_sentence(ours, theirs, metric, f"{name}, mean accuracy"))
        elif not math.isnan(value):
            sentences.append(f"{name}: mean accuracy {percent(value)}.")
    return [*sentences, f"Worst condition: {percent(run.robust.mean('robust/worst'))}."]


def recommendation(rows: Sequence[Evidence]) -> str:
    """Which row to take, and why; empty unless the robustness of the first and of others was measured.

    Of the rows whose clean accuracy is not worse than the first one's beyond noise, it is the one with the best mean
    of two accuracies, without a modality and with the dominant one noisy: on validation, if that was measured of all,
    so that the numbers of the test split that are told with it were not chosen by.
    """
    robust = [one.robust for one in rows if one.robust is not None and math.isfinite(robust_score(one.robust))]
    if len(robust) < 2 or robust[0] is not rows[0].robust:
        return ""
    first = robust[0]
    on_validation = all(math.isfinite(robust_score(row, "validation_")) for row in robust)
    prefix = "validation_" if on_validation else ""
    costly = [row for row in robust[1:] if costs_accuracy(row, first)]
    candidates = [row for row in robust if not any(row is other for other in costly)]
    best = max(candidates, key=lambda row: robust_score(row, prefix))
    more = [row.label for row in costly if robust_score(row, prefix) > robust_score(best, prefix)]
    how = (
        "Chosen by the mean of the accuracies without a modality and with the dominant one noisy, "
        f"{'on validation' if on_validation else 'on the test split itself, as validation was not measured'}."
    )
    if more:
        names = sentence_case(listed(more))
        how += f" {names} would keep more, but lost clean accuracy beyond the noise between {first.unit}s."
    if best is first:
        return f"Take {first.label}: no other row keeps more when a modality is missing or noisy. {how}"
    reasons, certain = [], []
    for metric, name in {**ROBUST, "accuracy": "clean data"}.items():
        found = difference(best, first, metric)
        if found is not None:
            is_judged = len(set(best.units) & set(first.units)) >= JUDGED_FROM and not math.isnan(found.low)
            interval = f" [{points(found.low)}, {points(found.high)}]" if is_judged else ""
            reasons.append(f"{name[:1].lower()}{name[1:]} {points(found.mean)}{interval}")
            certain += [is_judged and found.low > 0] if metric != "accuracy" else []
    text = f"Take {best.label}: {', '.join(reasons)} points against {first.label}."
    if not all(certain):
        unsure = "none" if not any(certain) else "not all"
        text += (
            f" The evidence is thin: {unsure} of its gains in robustness can be told from noise between {first.unit}s."
        )
    return f"{text} {how}"


def robust_score(row: Row, prefix: str = "") -> float:
    """The mean of the accuracies that `recommendation` weighs; NaN if one is not known."""
    return fmean(row.mean(f"{prefix}{metric}") for metric in ROBUST)


def costs_accuracy(row: Row, first: Row) -> bool:
    """Whether clean accuracy is worse beyond the noise between seeds or folds."""
    found = difference(row, first, "accuracy")
    return found is not None and len(set(row.units) & set(first.units)) >= JUDGED_FROM and found.high < 0


def accuracy_sentence(run: Evidence, first: Evidence, metric: str = "accuracy", name: str = "Test accuracy") -> str:
    """The change of an accuracy, and whether it can be told from chance."""
    new, old = run.row.mean(metric), first.row.mean(metric)
    text = f"{name} {100 * old:.1f} → {percent(new)} ({points(new - old)} points)"
    found = difference(run.row, first.row, metric)
    unit, common = run.row.unit, len(set(run.row.units) & set(first.row.units))
    if found is None:
        return f"{text}. No {unit} in common with {first.row.label}: not compared as pairs, so noise cannot be judged."
    both = counted(common, run.row)
    interval = f"95 % interval of the paired difference {points(found.low)} to {points(found.high)}"
    if common < JUDGED_FROM or math.isnan(found.low):
        if common == 1:
            text += f". One {unit} in common: noise between {unit}s is not known"
        elif math.isnan(found.low):
            text += f". The same difference in all {both}: noise between {unit}s cannot be judged"
        else:
            text += f". Two {unit}s in common are too few to judge noise between {unit}s ({interval})"
        if run.samples:
            error = math.sqrt((new * (1 - new) + old * (1 - old)) / run.samples)
            text += f"; the {run.samples} test samples alone leave a standard error of up to {100 * error:.1f} points"
        return f"{text}."
    evidence = f"({interval}, {both})"
    if found.low > 0:
        return f"{text}: better, beyond the noise between {unit}s {evidence}."
    if found.high < 0:
        return f"{text}: worse, beyond the noise between {unit}s {evidence}."
    return f"{text}: within noise {evidence}."


def error_sentence(run: Evidence, first: Evidence | None) -> str:
    """The mean absolute error of a regression, and its change; empty of runs that have none."""
    new = run.row.mean("mae")
    if math.isnan(new):
        return ""
    if first is None:
        return f"Test mean absolute error {new:.2f}."
    text = f"Test mean absolute error {first.row.mean('mae'):.2f} → {new:.2f}"
    found = difference(run.row, first.row, "mae")
    if found is None or math.isnan(found.low):
        return f"{text}."
    common = counted(len(set(run.row.units) & set(first.row.units)), run.row)
    return f"{text} (95 % interval of the paired difference {found.low:+.2f} to {found.high:+.2f}, {common})."


def counted(count: int, row: Row) -> str:
    """`1 seed`, `2 seeds`, `6 folds`."""
    return f"{count} {row.unit}" if count == 1 else f"{count} {row.unit}s"


def encoder_sentences(run: Evidence, first: Evidence | None) -> list[str]:
    """How good every encoder is: by its probe if there is one, else by its share of the joint head."""
    if len(run.modalities) < 2:
        return []
    probed = {m: run.probes[m] for m in run.modalities if m in run.probes}
    own = probed or {m: values for m in run.modalities if (values := run.row.by_unit(f"accuracy_{m}"))}
    if not own:
        return []
    parts, behind, most = [], [], 0
    for modality, values in own.items():
        before: Mapping[int, float] = {}
        if first is not None:
            before = first.probes.get(modality, {}) if probed else first.row.by_unit(f"accuracy_{modality}")
        common = [unit for unit in values if unit in before]
        value = fmean(values[unit] for unit in common or values)
        most = max(most, len(common or values))
        old = f"{100 * fmean(before[unit] for unit in common):.1f} → " if common else ""
        parts.append(f"{modality} {old}{percent(value)}{alone_text(run, modality, bool(probed))}")
        gap = run.alone.get(modality, math.nan) - value
        if probed and gap > BEHIND:
            behind.append(f"{modality} by {100 * gap:.1f} points")
    kind = "Predictions of each modality alone, through the joint head"
    if probed:
        kind = f"Linear probes on {run.probed_on}" + (
            f", {counted(most, run.row)}" if most < len(run.row.units) else ""
        )
    sentences = [f"{kind}: {', '.join(parts)}."]
    if behind:
        sentences.append(f"Under-trained compared to training alone: {', '.join(behind)}.")
    return sentences


def alone_text(run: Evidence, modality: str, probed: bool) -> str:
    """What training on the modality alone reaches, named where it is another measure; empty if not known."""
    if probed and modality in run.alone:
        return f" (trained alone {percent(run.alone[modality])})"
    if modality in run.alone_test:
        measure = ", its own test accuracy, not a probe's," if probed else ""
        return f" (trained alone{measure} {percent(run.alone_test[modality])})"
    return ""


def spread_text(run: Evidence) -> str:
    """` ± 2.1 over 5 seeds`, or that there is one."""
    spread = run.row.spread("accuracy")
    return (
        f" (one {run.row.unit})"
        if math.isnan(spread)
        else f" ± {100 * spread:.1f} over {counted(len(run.row.units), run.row)}"
    )


def percent(value: float) -> str:
    """`61.3 %`."""
    return f"{100 * value:.1f} %"


def points(value: float) -> str:
    """`+3.2` or `−3.2`, of a difference of shares."""
    return f"{100 * value:+.1f}".replace("-", "−")


def sentence_case(text: str) -> str:
    """With a capital, and otherwise as it is."""
    return text[:1].upper() + text[1:]


def listed(texts: Iterable[str]) -> str:
    """`a, b and c`."""
    *before, last = texts
    return f"{', '.join(before)} and {last}" if before else last
