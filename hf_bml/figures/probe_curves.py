"""Linear probes of several runs in one picture (paper Fig. 1): a line per run, the mean over its seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .overlaid_curves import Histories, draw_mean, draw_runs, keys_of
from .style import (
    JOINT,
    JOINT_COLOUR,
    Styles,
    epoch_axis,
    panel_title,
    percent_axis,
    picture,
    run_styles,
)

Probe = Mapping[str, Any]  # what probe.json holds
ALONE = "trained alone"


def probe_curve(entries: Sequence[Mapping[str, Any]], modality: str) -> tuple[list[float], list[float]]:
    """Epochs and probe accuracies of a modality's encoder."""
    timed = [entry for entry in entries if entry["epoch"] is not None]
    found = [(entry["epoch"], entry["accuracy"][modality]) for entry in timed if modality in entry["accuracy"]]
    return [epoch for epoch, _ in found], [accuracy for _, accuracy in found]


def alone_curve(probe: Probe, modality: str) -> tuple[list[float], list[float]]:
    """The same of the model that was trained on this modality alone; empty where there is none."""
    entries = [e for e in probe.get("alone", {}).get(modality, {}).get("checkpoints", []) if e["epoch"] is not None]
    return [entry["epoch"] for entry in entries], [entry["accuracy"] for entry in entries]


def final_probe(probe: Probe, modality: str) -> float | None:
    """The probe accuracy of the model that the run kept, or of the last one; None without any."""
    entries = [entry for entry in probe["checkpoints"] if modality in entry["accuracy"]]
    kept = [entry for entry in entries if entry.get("final")] or entries
    return kept[-1]["accuracy"][modality] if kept else None


def final_alone(probe: Probe, modality: str) -> float | None:
    """The accuracy of the model trained on the modality alone, None where there is none."""
    return probe.get("alone", {}).get(modality, {}).get("accuracy")


def plot_probes(
    probes: Mapping[str, Sequence[Probe]],
    modalities: Sequence[str],
    path: str | Path,
    histories: Histories | None = None,
    styles: Styles | None = None,
) -> None:
    """Draws probe accuracy over the epochs (paper Fig. 1), a panel per modality, into a PNG.

    A dashed grey line shows a model that was trained on the modality alone, where a run has one: over its epochs, or
    its final accuracy throughout if one model of it was probed.

    Args:
        probes: every seed's probe, per run; all on one split, with the same settings.
        modalities: names.
        histories: every seed's log, per run, for a last panel with the validation accuracy of all modalities.
    """
    with_joint = histories is not None and "eval_accuracy" in keys_of(histories)
    styles = styles or run_styles(histories if histories is not None else probes)
    every = [probe for seeds in probes.values() for probe in seeds]
    grey = {"color": JOINT_COLOUR, "linestyle": "--", "linewidth": 2.2, "label": ALONE}
    with picture(path, len(modalities) + with_joint, sharey=True) as (_, axes):
        for axis, modality in zip(axes, modalities, strict=False):
            for label, seeds in probes.items():
                curves = [probe_curve(probe["checkpoints"], modality) for probe in seeds]
                draw_mean(axis, curves, label=label, **styles[label])
            finals = [value for probe in every if (value := final_alone(probe, modality)) is not None]
            curves = [alone_curve(probe, modality) for probe in every]
            if any(len(epochs) > 1 for epochs, _ in curves):
                draw_mean(axis, curves, **grey)
            elif finals:  # one point would not be seen
                axis.axhline(sum(finals) / len(finals), **grey)
            axis.set_title(f"{modality}, probe on {every[0]['split']}")
        if with_joint:
            draw_runs(axes[-1], histories, "eval_accuracy", styles)
            axes[-1].set_title(f"{panel_title(JOINT)}, validation")
        for axis in axes:
            percent_axis(axis, "accuracy", limits=(None, None))
            epoch_axis(axis)
