"""Training curves of one run as a picture: loss, accuracy, discrepancy ratio, and what the modulations did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .quantities import Quantity, quantities
from .style import RUN_STYLES, modality_colours, picture

RATIO = "Discrepancy ratio"
Limits = tuple[float | None, float | None]


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

    Returns:
        whether anything was logged; if not, there is no PNG.
    """
    keys = list(dict.fromkeys(key for entry in history for key in entry))
    colours = modality_colours(modalities)
    accuracies = [("eval_accuracy", "black", "-", "all, validation")]
    for m, colour in colours.items():
        accuracies.append((f"unimodal/accuracy_{m}", colour, "-", f"{m}, train"))
        accuracies.append((f"eval_accuracy_{m}", colour, "--", f"{m}, validation"))
    modulated = main_quantities(quantities(keys, modalities))
    methods = list(dict.fromkeys(found.method for found in modulated))
    ylabel, limits = modulation_axis(modulated)
    every = [  # title, label and limits of the y axis, and lines: what was logged, colour, style, label
        (
            *("Loss", "cross-entropy (nats)", (None, None)),
            [("loss", "black", "-", "train"), ("eval_loss", "black", "--", "validation")],
        ),
        ("Accuracy, joint and unimodal", "accuracy", (0, 1.02), accuracies),
        (RATIO, "ratio (1: balanced)", (0, None), [(f"balance/ratio_{m}", c, "-", m) for m, c in colours.items()]),
        (
            *("Modulation", ylabel, limits),
            [
                (
                    found.key,
                    colours.get(found.modality, "black"),
                    RUN_STYLES[methods.index(found.method) % len(RUN_STYLES)],
                    f"{found.method} {found.title.axis}" + (f", {found.modality}" if found.modality else ""),
                )
                for found in modulated
            ],
        ),
    ]
    logged = [(*panel, [line for line in lines if line[0] in keys]) for *panel, lines in every]
    shown = [panel for panel in logged if panel[-1]]
    if not shown:
        return False
    with picture(path, len(shown), title, columns=len(shown), legend=False) as (_, axes):
        for axis, (name, ylabel, limits, lines) in zip(axes, shown, strict=True):
            for key, colour, style, label in lines:
                axis.plot(*series(history, key), color=colour, linestyle=style, label=label)
            if name == RATIO:
                axis.axhline(1, color="grey", linewidth=0.8)
            if limits != (None, None):
                axis.set_ylim(limits)
            axis.set(title=name, xlabel="epoch", ylabel=ylabel)
            axis.legend(fontsize=7)
    return True


def main_quantities(found: Sequence[Quantity]) -> list[Quantity]:
    """The first titled quantity of each method, of all modalities: what one panel can hold."""
    named = [quantity for quantity in found if quantity.is_named]
    first = {quantity.method: quantity.title for quantity in reversed(named)}
    return [quantity for quantity in named if quantity.title == first[quantity.method]]


def modulation_axis(shown: Sequence[Quantity]) -> tuple[str, Limits]:
    """Label and limits of an axis that several quantities share."""
    titles = list(dict.fromkeys(quantity.title for quantity in shown))
    lows, highs = [title.low for title in titles], [title.high for title in titles]
    low, high = (None if not own or None in own else limit(own) for own, limit in ((lows, min), (highs, max)))
    return " / ".join(dict.fromkeys(title.axis for title in titles)), with_margin(low, high)


def with_margin(low: float | None, high: float | None) -> Limits:
    """Limits of an axis, with a margin where both ends are given, so that a curve along an end is seen."""
    if low is None or high is None:
        return low, high
    return low - 0.02 * (high - low), high + 0.02 * (high - low)
