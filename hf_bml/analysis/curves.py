"""Training curves of one run as a picture: loss, accuracy, discrepancy ratio, and what the modulations did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure  # not pyplot, whose backend belongs to the program that trains

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe-Ito, colour-blind safe
STYLES = ("-", "--", ":", "-.")


def series(history: Sequence[Mapping[str, Any]], key: str) -> tuple[list[float], list[float]]:
    """Epochs and values of `key` in a `TrainerState.log_history`."""
    points = [(entry["epoch"], entry[key]) for entry in history if key in entry]
    return [epoch for epoch, _ in points], [value for _, value in points]


def plot_curves(
    history: Sequence[Mapping[str, Any]], modalities: Sequence[str], path: str | Path, title: str = ""
) -> None:
    """Draws a run's curves into a PNG.

    Args:
        history: `trainer.state.log_history`.
        modalities: names in the model's order.
        path: the PNG.
        title: above the panels.
    """
    keys = {key for entry in history for key in entry}
    modulation = [
        (prefix, label)
        for prefix, label in (("opm/drop_probability", "OPM drop probability"), ("ogm/coefficient", "OGM coefficient"))
        if any(f"{prefix}_{modality}" in keys for modality in modalities)
    ]
    panels = 3 + bool(modulation)
    figure = Figure(figsize=(4.4 * panels, 3.6), layout="constrained")
    axes = figure.subplots(1, panels)
    loss, accuracy, ratio = axes[:3]

    loss.plot(*series(history, "loss"), color="black", label="train")
    if "eval_loss" in keys:
        loss.plot(*series(history, "eval_loss"), color="black", linestyle="--", label="validation")
    loss.set(title="Loss", ylabel="cross-entropy")

    if "eval_accuracy" in keys:
        accuracy.plot(*series(history, "eval_accuracy"), color="black", label="all, validation")
    for colour, modality in zip(COLOURS, modalities, strict=False):
        accuracy.plot(*series(history, f"unimodal/accuracy_{modality}"), color=colour, label=f"{modality}, train")
        if f"eval_accuracy_{modality}" in keys:
            points = series(history, f"eval_accuracy_{modality}")
            accuracy.plot(*points, color=colour, linestyle="--", label=f"{modality}, validation")
        ratio.plot(*series(history, f"balance/ratio_{modality}"), color=colour, label=modality)
    accuracy.set(title="Accuracy, joint and unimodal", ylabel="accuracy", ylim=(0, 1.02))
    ratio.axhline(1, color="grey", linewidth=0.8)
    ratio.set(title="Discrepancy ratio", ylabel="ratio (1: balanced)", ylim=(0, None))

    for style, (prefix, label) in zip(STYLES, modulation, strict=False):
        for colour, modality in zip(COLOURS, modalities, strict=False):
            points = series(history, f"{prefix}_{modality}")
            axes[3].plot(*points, color=colour, linestyle=style, label=f"{label}, {modality}")
    if modulation:
        axes[3].set(title="Modulation", ylabel="probability / coefficient", ylim=(-0.02, 1.02))

    for axis in axes:
        axis.set_xlabel("epoch")
        axis.grid(alpha=0.25)
        axis.legend(fontsize=7)
    figure.suptitle(title)
    figure.savefig(path, dpi=120)
