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
                f"{len(groups) - 1} runs are compared to one: one in twenty 95 % intervals excludes 0 by chance, "
                "and the best of many is not as good as it looks."
            )
        )
    mixed = [group.label for group in groups if len({run.result.get("fingerprint") for run in group.runs}) > 1]
    if mixed:
        parts.append(Text(f"The seeds of {listed(mixed)} were trained with different options or versions."))
    return parts


def evidence(group: RunGroup, groups: Sequence[RunGroup], split: str) -> Evidence:
    """What a verdict on a group rests on."""
    finals = {m: fmean(values) for m in group.modalities if (values := final_probes(group, m))}
    several = group.modalities if len(group.modalities) > 1 else []
    alone = {m: fmean(values) for m in several if (values := alone_accuracies(group, groups, m))}
    samples = next((run.analyses[split]["samples"] for run in group.runs if split in run.analyses), None)
    return Evidence(group.row, group.modalities, finals, alone, samples if split == "test" else None)


def final_probes(group: RunGroup, modality: str) -> list[float]:
    """The final probe accuracy of every run that has one."""
    found = [final_probe(run.probe, modality) for run in group.runs if run.probe]
    return [value for value in found if value is not None]


def alone_accuracies(group: RunGroup, groups: Sequence[RunGroup], modality: str) -> list[float]:
    """What training on a modality alone reaches.

    From the group's probes, else from those of groups with the same encoder, else from groups that have this encoder
    only.
    """
    alike = [other for other in groups if encoder(other, modality) == encoder(group, modality)]
    for members in ([group], alike):
        found = [final_alone(run.probe, modality) for other in members for run in other.runs if run.probe]
        if values := [value for value in found if value is not None]:
            return values
    return [other.row.mean("accuracy") for other in alike if other.modalities == [modality]]


def encoder(group: RunGroup, modality: str) -> Any:
    """The options of a modality's encoder, None if the model lacks it."""
    return (group.first.config.get("modalities") or {}).get(modality)
