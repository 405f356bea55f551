"""What results mean, in plain words: who dominates, what a method changed, and whether seeds can tell."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .comparison import Row, difference

BALANCED_UP_TO = 1.1  # discrepancy ratio
BEHIND = 0.03  # share of samples by which an encoder must be worse than one trained alone to be called so


@dataclass
class Evidence:
    """What a verdict rests on.

    Attributes:
        row: the runs' flat results.
        modalities: the model's, in its order.
        probes: final probe accuracy per modality, mean over seeds; empty where no probe was made.
        alone: accuracy of a model trained on the modality alone; may be empty.
        samples: of the test split; None if not known.
    """

    row: Row
    modalities: list[str]
    probes: Mapping[str, float] = field(default_factory=dict)
    alone: Mapping[str, float] = field(default_factory=dict)
    samples: int | None = None

    def ratios(self) -> dict[str, float]:
        """Mean discrepancy ratio of the last log per modality, where it was logged."""
        found = {modality: self.row.mean(f"ratio_{modality}") for modality in self.modalities}
        return {modality: ratio for modality, ratio in found.items() if not math.isnan(ratio)}

    def dominant(self) -> str | None:
        """The modality with the largest ratio; None for one modality or without ratios."""
        ratios = self.ratios()
        return max(ratios, key=lambda modality: ratios[modality]) if len(ratios) > 1 else None


def verdict(run: Evidence, first: Evidence | None = None) -> list[str]:
    """Sentences about a run, and against the first one.

    Args:
        run: what is known of it.
        first: of the run that it is compared to; None for the first itself, or for other data.
    """
    sentences = [balance_sentence(run, first)]
    if first is None:
        sentences.append(f"Test accuracy {percent(run.row.mean('accuracy'))}{spread_text(run)}.")
    else:
        sentences.append(accuracy_sentence(run, first))
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


def accuracy_sentence(run: Evidence, first: Evidence) -> str:
    """The change of the test accuracy, and whether it can be told from chance."""
    new, old = run.row.mean("accuracy"), first.row.mean("accuracy")
    text = f"Test accuracy {100 * old:.1f} → {percent(new)} ({points(new - old)} points)"
    found = difference(run.row, first.row, "accuracy")
    if found is None:
        return f"{text}. No seed in common with {first.row.label}: not compared as pairs, so noise cannot be judged."
    seeds = len(set(run.row.seeds) & set(first.row.seeds))
    if math.isnan(found.low):
        text += ". One seed in common: noise between seeds is not known"
        if run.samples:
            error = math.sqrt((new * (1 - new) + old * (1 - old)) / run.samples)
            text += f"; the {run.samples} test samples alone leave a standard error of up to {100 * error:.1f} points"
        return f"{text}."
    interval = f"95 % interval of the paired difference {points(found.low)} to {points(found.high)}, {seeds} seeds"
    if found.low > 0:
        return f"{text}: better, beyond the noise between seeds ({interval})."
    if found.high < 0:
        return f"{text}: worse, beyond the noise between seeds ({interval})."
    few = " Two seeds give wide intervals; more may tell." if seeds == 2 else ""
    return f"{text}: within noise ({interval}).{few}"


def encoder_sentences(run: Evidence, first: Evidence | None) -> list[str]:
    """How good every encoder is: by its probe if there is one, else by its share of the joint head."""
    if len(run.modalities) < 2:
        return []
    probed = {m: run.probes[m] for m in run.modalities if m in run.probes}
    kind = "Linear probes" if probed else "Predictions of each modality alone, through the joint head"
    own = probed or {m: value for m in run.modalities if not math.isnan(value := run.row.mean(f"accuracy_{m}"))}
    if not own:
        return []
    parts = []
    for modality, value in own.items():
        old = math.nan
        if first is not None:
            old = first.probes.get(modality, math.nan) if probed else first.row.mean(f"accuracy_{modality}")
        text = f"{modality} {percent(value)}" if math.isnan(old) else f"{modality} {100 * old:.1f} → {percent(value)}"
        alone = run.alone.get(modality, math.nan)
        if not math.isnan(alone):
            text += f" (trained alone {percent(alone)})"
        parts.append(text)
    sentences = [f"{kind}: {', '.join(parts)}."]
    behind = [m for m in own if run.alone.get(m, math.nan) - own[m] > BEHIND]
    if probed and behind:
        worse = ", ".join(f"{m} by {100 * (run.alone[m] - own[m]):.1f} points" for m in behind)
        sentences.append(f"Under-trained compared to training alone: {worse}.")
    return sentences


def spread_text(run: Evidence) -> str:
    """` ± 2.1 over 5 seeds`, or that there is one."""
    spread = run.row.spread("accuracy")
    return " (one seed)" if math.isnan(spread) else f" ± {100 * spread:.1f} over {len(run.row.runs)} seeds"


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
