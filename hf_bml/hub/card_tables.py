"""The tables of a model card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..analysis.metric_names import NUMBERS
from ..analysis.summary import markdown_table, percent
from ..models import ENCODERS, QUESTION_ANSWERING_ARCHITECTURES, SEGMENT_ARCHITECTURES
from .card_metadata import is_score, metric_id
from .facts import CardFacts

ARCHITECTURES = {**SEGMENT_ARCHITECTURES, **QUESTION_ANSWERING_ARCHITECTURES}


def class_names(facts: CardFacts) -> list[str]:
    """Names of the classes in their order."""
    names = facts.config.get("id2label") or {}
    return [str(name) for _, name in sorted(names.items(), key=lambda item: int(item[0]))]


def short(options: Mapping[str, Any]) -> str:
    """Options in one line, without those that are not set and digests; of a long list, such as a vocabulary, its
    length."""
    hidden = ("type", "files", "fitted")
    shown = {name: value for name, value in options.items() if name not in hidden and value not in (None, [], {})}
    long = {name: f"of {len(value)}" for name, value in shown.items() if isinstance(value, list) and len(value) > 12}
    return ", ".join(f"{name} {value}" for name, value in {**shown, **long}.items())


def model_table(facts: CardFacts) -> str:
    """A row per modality: encoder and processor, each with its options."""
    encoders = facts.config.get("modalities") or {}
    wrapped = facts.balance.get("modalities", {})

    def cell(options: Mapping[str, Any]) -> str:
        return f"`{options['type']}`: {short(options)}".removesuffix(": ") if "type" in options else "-"

    return markdown_table(
        ("modality", "input", "encoder"),
        [
            (
                name,
                cell(facts.processors.get(name, {})),
                ", ".join(f"`{path}`" for path in wrapped.get(name, ())) or cell(encoders.get(name, {})),
            )
            for name in facts.modalities
        ],
    )


def describe_architecture(facts: CardFacts) -> list[str]:
    """What joins the modalities, unless it is a fusion, and which published work this and the encoders follow."""
    texts = []
    name, loss = facts.config.get("architecture"), facts.config.get("segment_loss")
    if name in ARCHITECTURES:
        options = short(facts.config.get("architecture_options") or {})
        line = f"Architecture: `{name}`" + (f" ({options})" if options else "") + (f", loss `{loss}`" if loss else "")
        texts += [f"{line}.", ARCHITECTURES[name].provenance]
    origins: dict[str, list[str]] = {}
    for modality, options in (facts.config.get("modalities") or {}).items():
        encoder = ENCODERS.get(options.get("type"))  # not of one that was extracted before
        if encoder is not None and encoder.provenance is not None:
            origins.setdefault(f"`{options['type']}`: {encoder.provenance}", []).append(modality)
    return texts + [f"The encoder of {' and '.join(names)}, {text}" for text, names in origins.items()]


def modulation_table(facts: CardFacts) -> str:
    """A row per modulation with all its values."""
    rows = [(f"`{name}`", short(options)) for name, options in facts.modulations.items()]
    return markdown_table(("modulation", "values"), rows) if rows else ""


def is_number(metric: str) -> bool:
    """Whether a metric is a number in the units of the labels, or a correlation, no fraction."""
    return metric.startswith(NUMBERS)


def score(metric: str, value: float | None) -> str:
    """A metric's value as a table has it: a fraction times 100."""
    return f"{value:.2f}" if value is not None and is_number(metric) else percent(value)


def score_table(facts: CardFacts) -> str:
    """A row per metric of all modalities together, a column per split."""
    splits = sorted(facts.results)
    metrics = {name: None for split in splits for name in facts.results[split] if is_score(name)}
    rows = [
        (metric_id(metric, ())[1], *(score(metric, facts.results[split].get(metric)) for split in splits))
        for metric in metrics
        if not any(metric.endswith(f"_{modality}") for modality in facts.modalities)
    ]
    times = "" if any(map(is_number, metrics)) else ", times 100"
    return markdown_table((f"all modalities together{times}", *splits), rows) if rows else ""


def modality_table(facts: CardFacts) -> str:
    """A row per modality: what it predicts alone in each split, and its final discrepancy ratio."""
    found = {
        (split, metric.removesuffix(f"_{modality}")): None
        for split in sorted(facts.results)
        for metric in facts.results[split]
        for modality in facts.modalities
        if metric.endswith(f"_{modality}")
    }
    times = {metric: "" if is_number(metric) else " times 100" for _, metric in found}
    columns = [f"{metric_id(metric, ())[1]}{times[metric]}, {split}" for split, metric in found]
    if not (columns or facts.ratios):
        return ""
    rows = []
    for modality in facts.modalities:
        scores = [score(metric, facts.results[split].get(f"{metric}_{modality}")) for split, metric in found]
        ratio = facts.ratios.get(modality)
        rows.append((f"{modality} alone", *scores, "-" if ratio is None else f"{ratio:.2f}"))
    return markdown_table(("modality", *columns, "final discrepancy ratio"), rows)


def robustness_table(facts: CardFacts) -> str:
    """What is left on test when a modality is missing or noisy; empty if that was not measured."""
    summary = facts.robustness.get("summary", {})
    rows = [("clean", percent(summary.get("clean")))] if summary else []
    for modality in facts.modalities:
        if f"missing_{modality}" in summary:
            rows.append((f"without {modality}", percent(summary[f"missing_{modality}"])))
        start = f"noisy_{modality}/"
        for name in (name for name in summary if name.startswith(start)):
            rows.append((f"{modality}: {name.removeprefix(start)}", percent(summary[name])))
    if "worst" in summary:
        rows.append(("worst of all severities", percent(summary["worst"])))
    return markdown_table(("condition", "accuracy times 100, test"), rows) if rows else ""


def environment_table(facts: CardFacts) -> str:
    """Versions, device, date, seed and duration, as far as they are known."""
    rows = [(name, str(value)) for name, value in facts.environment.items()]
    if facts.seed is not None:
        rows.append(("seed", str(facts.seed)))
    if facts.train_seconds is not None:
        rows.append(("training time", f"{facts.train_seconds:.0f} s"))
    return markdown_table(("what", "value"), rows) if rows else ""
