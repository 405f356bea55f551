"""The verdict of a report: what every run shows, in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from ..analysis.probe_curves import final_alone, final_probe
from ..analysis.report_page import Cards, Text
from ..analysis.verdict import Evidence, listed, verdict
from .run_files import RunGroup

MANY_RUNS = 5  # from here on, one of the intervals may miss 0 by chance


def summary_parts(groups: Sequence[RunGroup], split: str) -> list[Any]:
    """A card per run: what it shows, and against the first one."""
    all_evidence = [evidence(group, groups, split) for group in groups]
    first = all_evidence[0]
    note = " (the others are compared to it)" if len(groups) > 1 else ""
    cards = [(f"{groups[0].label}{note}", verdict(first))]
    cards += [(group.label, verdict(own, first)) for group, own in zip(groups[1:], all_evidence[1:], strict=True)]
    parts: list[Any] = [Cards(cards)]
    if any(len(group.runs) > 1 for group in groups):
        parts.append(Text("Numbers are means over seeds; intervals are Student's, of differences paired by seed."))
    if len(groups) > MANY_RUNS:
        parts.append(
            Text(
                f"{len(groups) - 1} runs are compared to one: about one in twenty 95 % intervals excludes 0 by chance "
                "and the best of many is not as good as it looks."
            )
        )
    mixed = [group.label for group in groups if len({run.result.get("fingerprint") for run in group.runs}) > 1]
    if mixed:
        parts.append(Text(f"The seeds of {listed(mixed)} were trained with different options or versions."))
    return parts


def evidence(group: RunGroup, groups: Sequence[RunGroup], split: str) -> Evidence:
    """What a verdict on a group rests on.

    What training on a modality alone reaches is taken from its probes, else from those of runs with the same encoder,
    else from runs that have this modality only.
    """
    finals = {m: fmean(values) for m in group.modalities if (values := final_probes([group], m))}
    alone = {}
    for modality in group.modalities if len(group.modalities) > 1 else ():
        alike = [other for other in groups if encoder(other, modality) == encoder(group, modality)]
        values = alone_accuracies([group], modality) or alone_accuracies(alike, modality)
        values = values or [other.row.mean("accuracy") for other in alike if other.modalities == [modality]]
        if values:
            alone[modality] = fmean(values)
    samples = next((run.analyses[split]["samples"] for run in group.runs if split in run.analyses), None)
    return Evidence(group.row, group.modalities, finals, alone, samples if split == "test" else None)


def final_probes(groups: Sequence[RunGroup], modality: str) -> list[float]:
    """The last probe accuracy of every run that has one."""
    found = [final_probe(run.probe, modality) for group in groups for run in group.runs if run.probe]
    return [value for value in found if value is not None]


def alone_accuracies(groups: Sequence[RunGroup], modality: str) -> list[float]:
    """What every probe of the runs says of a model trained on the modality alone."""
    found = [final_alone(run.probe, modality) for group in groups for run in group.runs if run.probe]
    return [value for value in found if value is not None]


def encoder(group: RunGroup, modality: str) -> Any:
    """The options of a modality's encoder, None if the model lacks it."""
    return (group.first.config.get("modalities") or {}).get(modality)
