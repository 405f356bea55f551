"""Linear probes in a report; only those of one split and the same settings are compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from ...figures.probe_curves import final_alone, final_probe, plot_probes
from ...study.run_groups import RunGroup, histories_of, modalities_of, per_group, share_text
from ..figure_folder import FigureFolder
from ..page import Table, Text
from ..verdict import listed, percent, points

Kind = tuple[str, str]  # the split of a probe, and its settings in words


def probe_kind(probe: Mapping[str, Any]) -> Kind:
    """What must be equal for probes to be compared."""
    return probe["split"], ", ".join(f"{name} {value}" for name, value in probe["settings"].items())


def probe_kinds(groups: Sequence[RunGroup]) -> list[Kind]:
    """Every kind of probe, that of most runs first."""
    kinds = Counter(probe_kind(run.probe) for group in groups for run in group.runs if run.probe)
    return [kind for kind, _ in kinds.most_common()]


def final_probes(group: RunGroup, modality: str, kind: Kind) -> dict[int, float]:
    """The final probe accuracy by seed (of folds by fold), of the runs that have one."""
    probes = {run.unit: run.probe for run in group.runs if run.probe and probe_kind(run.probe) == kind}
    found = {seed: final_probe(probe, modality) for seed, probe in probes.items()}
    return {seed: value for seed, value in found.items() if value is not None}


def alone_probes(group: RunGroup, groups: Sequence[RunGroup], modality: str, kind: Kind) -> list[float]:
    """The probe accuracies of models trained on a modality alone.

    From the group's probes, else from those of groups with the same encoder.
    """
    for members in ([group], alike(group, groups, modality)):
        probes = [run.probe for other in members for run in other.runs if run.probe]
        found = [final_alone(probe, modality) for probe in probes if probe_kind(probe) == kind]
        if values := [value for value in found if value is not None]:
            return values
    return []


def alone_tests(group: RunGroup, groups: Sequence[RunGroup], modality: str) -> list[float]:
    """The test accuracy of every group whose only encoder is this modality's: of the model itself, not of a probe."""
    return [other.row.mean("accuracy") for other in alike(group, groups, modality) if other.modalities == [modality]]


def alike(group: RunGroup, groups: Sequence[RunGroup], modality: str) -> list[RunGroup]:
    """The groups, and the parts of any, with the same encoder of a modality."""
    parts = {id(part): part for other in groups for part in other.parts}
    return [
        other for other in (*groups, *parts.values()) if other.encoders.get(modality) == group.encoders.get(modality)
    ]


def probe_parts(groups: Sequence[RunGroup], figures: FigureFolder) -> list[Any]:
    """Probes over the training and at its end, each kind separately."""
    parts: list[Any] = []
    kinds = probe_kinds(groups)
    if len(kinds) > 1:
        parts.append(
            Text("The probes differ in split or settings. Only equal ones are compared: each kind has its own figure.")
        )
    for number, kind in enumerate(kinds):
        parts += parts_of_kind(groups, kind, figures, f"probes_{number}" if number else "probes")
    return parts


def parts_of_kind(groups: Sequence[RunGroup], kind: Kind, figures: FigureFolder, name: str) -> list[Any]:
    """Figure and table of the probes of one kind."""
    probes = per_group(groups, lambda run: run.probe if run.probe and probe_kind(run.probe) == kind else None)
    probed = [group for group in groups if group.label in probes]
    split, settings = kind
    caption = (
        f"A linear classifier, trained anew on each frozen encoder's features, on {split} (paper Fig. 1); dashed: the "
        "same on a model trained on the modality alone."
    )
    if settings:
        caption += f" Settings of the classifier: {settings}."
    text = f"Probe accuracies over the training of {listed(probes)}."
    data = (plot_probes, probes, modalities_of(probed))
    dated = any(e["epoch"] is not None for seeds in probes.values() for probe in seeds for e in probe["checkpoints"])
    parts: list[Any] = [figures.draw(name, caption, text, *data, histories=histories_of(probed))] if dated else []
    lines = []
    for group in probed:
        for modality in group.modalities:
            if finals := final_probes(group, modality, kind).values():
                alone = alone_probes(group, groups, modality, kind)
                own = alone_tests(group, groups, modality) if len(group.modalities) > 1 else []
                gap = points(fmean(finals) - fmean(alone)) if alone else "-"
                seeds = share_text(len(finals), len(group.runs))
                cells = [percent(fmean(values)) if values else "-" for values in (finals, alone)]
                lines.append([group.label, modality, seeds, *cells, gap, percent(fmean(own)) if own else "-"])
    header = ["run", "encoder", "seeds", "probe of the final model", "probe, trained alone", "difference, points"]
    header.append("test accuracy, trained alone")
    caption = f"Probe accuracy, {split}, mean over the seeds that were probed."
    if all(line[-1] == "-" for line in lines):
        header, lines = header[:-1], [line[:-1] for line in lines]
    else:
        caption += " The last column is not a probe but what a model of the modality alone predicts."
    parts.append(Table(caption, header, lines))
    return parts
