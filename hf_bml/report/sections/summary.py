"""The verdict of a report: what every run shows, in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from ...study.run_groups import RunGroup
from ..page import Cards, Text
from ..verdict import Evidence, listed, recommendation, verdict
from .probes import Kind, alone_probes, alone_tests, final_probes, probe_kinds
from .robustness import robust_rows

MANY_RUNS = 5  # from here on, one of the intervals may miss 0 by chance


def summary_parts(groups: Sequence[RunGroup], split: str) -> list[Any]:
    """A card per run: what it shows, and against the first one."""
    kind, *others = probe_kinds(groups) or [None]
    robust = robust_rows(groups)
    all_evidence = [replace(evidence(group, groups, split, kind), robust=robust.get(group.label)) for group in groups]
    first = all_evidence[0]
    note = " (the others are compared to it)" if len(groups) > 1 else ""
    cards = [(f"{groups[0].label}{note}", verdict(first))]
    cards += [(group.label, verdict(own, first)) for group, own in zip(groups[1:], all_evidence[1:], strict=True)]
    advice = recommendation(all_evidence)
    parts: list[Any] = [*([Text(advice)] if advice else []), Cards(cards)]
    if any(len(group.runs) > 1 for group in groups):
        unit = groups[0].row.unit
        parts.append(
            Text(f"Numbers are means over {unit}s; intervals are Student's, of differences paired by {unit}.")
        )
    if others:
        parts.append(
            Text(f"Probes differ in split or settings; shown are those on {kind[0]} with {kind[1] or 'no settings'}.")
        )
    if len(groups) > MANY_RUNS:
        parts.append(
            Text(
                f"{len(groups) - 1} runs are compared to one: one in twenty 95 % intervals excludes 0 by chance, "
                "and the best of many is not as good as it looks."
            )
        )
    mixed = [
        group.label
        for group in groups
        if len({run.result.get("fingerprint") for run in group.runs}) > max(1, len(group.row.folds))
    ]
    if mixed:
        parts.append(Text(f"The seeds of {listed(mixed)} were trained with different options or versions."))
    return parts


def evidence(group: RunGroup, groups: Sequence[RunGroup], split: str, kind: Kind | None) -> Evidence:
    """What a verdict on a group rests on.

    Args:
        group: the group.
        groups: all, among them models of one modality.
        split: of the analyses.
        kind: of the probes; None without any.
    """
    several = group.modalities if len(group.modalities) > 1 else []
    probes, alone = {}, {}
    if kind is not None:
        probes = {m: values for m in group.modalities if (values := final_probes(group, m, kind))}
        alone = {m: fmean(values) for m in several if (values := alone_probes(group, groups, m, kind))}
    alone_test = {m: fmean(values) for m in several if (values := alone_tests(group, groups, m))}
    samples = next((run.analyses[split]["samples"] for run in group.runs if split in run.analyses), None)
    return Evidence(
        group.row,
        group.modalities,
        probes,
        kind[0] if kind is not None else "",
        alone,
        alone_test,
        samples if split == "test" else None,
    )
