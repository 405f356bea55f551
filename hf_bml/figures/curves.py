"""Training curves of one run as a picture: loss, accuracy, discrepancy ratio, and what the modulations did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .style import RUN_STYLES, finish_axis, modality_colours, panels, save

RATIO = "Discrepancy ratio"


def series(history: Sequence[Mapping[str, Any]], key: str) -> tuple[list[float], list[float]]:
    """Epochs and values of `key` in a `TrainerState.log_history`."""
    points = [(entry["epoch"], entry[key]) for entry in history if key in entry]
    return [epoch for epoch, _ in points], [value for _, value in points]


def plot_curves(
    history: Sequence[Mapping[str, Any]], modalities: Sequence[str], path: str | Path, title: str = ""
) -> bool:
    """Draws a run's curves into a PNG, one panel per kind of quantity that was logged.

    Args:
        history: `trainer.state.log_history`.
        modalities: names in the model's order.
        path: the PNG.
        title: above the panels.

    Returns:
        whether anything was logged; if not, there is no PNG.
    """
    keys = {key for entry in history for key in entry}
    modulation = [
        (prefix, label)
        for prefix, label in (("opm/drop_probability", "OPM drop probability"), ("ogm/coefficient", "OGM coefficient"))
        if any(f"{prefix}_{modality}" in keys for modality in modalities)
    ]
    colours = modality_colours(modalities).items()
    accuracies = [
        line
        for m, colour in colours
        for line in (
            (f"unimodal/accuracy_{m}", colour, "-", f"{m}, train"),
            (f"eval_accuracy_{m}", colour, "--", f"{m}, validation"),
        )
    ]
    every = {  # title, label and limits of the y axis, and lines: what was logged, colour, style, label
        ("Loss", "cross-entropy (nats)", None): [
            ("loss", "black", "-", "train"),
            ("eval_loss", "black", "--", "validation"),
        ],
        ("Accuracy, joint and unimodal", "accuracy", (0, 1.02)): [
            ("eval_accuracy", "black", "-", "all, validation"),
            *accuracies,
        ],
        (RATIO, "ratio (1: balanced)", (0, None)): [(f"balance/ratio_{m}", colour, "-", m) for m, colour in colours],
        ("Modulation", "probability / coefficient", (-0.02, 1.02)): [
            (f"{prefix}_{m}", colour, style, f"{label}, {m}")
            for style, (prefix, label) in zip(RUN_STYLES, modulation, strict=False)
            for m, colour in colours
        ],
    }
    logged = {panel: [line for line in lines if line[0] in keys] for panel, lines in every.items()}
    shown = {panel: lines for panel, lines in logged.items() if lines}
    if not shown:
        return False
    figure, axes = panels(len(shown), columns=len(shown))
    for axis, ((name, ylabel, limits), lines) in zip(axes, shown.items(), strict=True):
        for key, colour, style, label in lines:
            axis.plot(*series(history, key), color=colour, linestyle=style, label=label)
        if name == RATIO:
            axis.axhline(1, color="grey", linewidth=0.8)
        if limits:
            axis.set_ylim(limits)
        axis.set(title=name, xlabel="epoch", ylabel=ylabel)
        finish_axis(axis)
        axis.legend(fontsize=7)
    save(figure, path, title)
    return True
