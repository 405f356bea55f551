"""Training curves of one run as a picture: loss, accuracy, discrepancy ratio, and what the modulations did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from ..modulation import Title
from .quantities import Quantity, quantities
from .style import JOINT, JOINT_COLOUR, epoch_axis, modality_colours, panel_title, percent_axis, picture

RATIO = "Ratio on training batches"
MARKED_UP_TO = 25  # points of a curve; a single one would not be seen as a line
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
    own = {m: {"color": colour, "label": m} for m, colour in colours.items()}
    joint, grey = {"color": "black", "label": panel_title(JOINT)}, {"color": JOINT_COLOUR}
    every = [  # title, label and limits of the y axis, and lines: what was logged, and its look
        (
            *("Loss", "loss (nats)", (None, None)),
            {"loss": grey | {"label": "training"}, "eval_loss": grey | {"label": "validation", "linestyle": "--"}},
        ),
        (
            *("Validation accuracy", None, (0, 1.02)),
            {"eval_accuracy": joint} | {f"eval_accuracy_{m}": look for m, look in own.items()},
        ),
        (
            *("Accuracy on training batches", None, (0, 1.02)),
            {f"unimodal/accuracy_{m}": look for m, look in own.items()},
        ),
        (RATIO, "ratio (1: balanced)", (0, None), {f"balance/ratio_{m}": look for m, look in own.items()}),
    ]
    for method, modulated in groupby(main_quantities(quantities(keys, modalities)), key=lambda found: found.method):
        found = {quantity.key: quantity for quantity in modulated}
        what = next(iter(found.values())).title
        looks = {key: own.get(quantity.modality, joint) for key, quantity in found.items()}
        every.append((method, what.axis, with_margin(what.low, what.high), looks))
    logged = [(*panel, {key: look for key, look in lines.items() if key in keys}) for *panel, lines in every]
    shown = [panel for panel in logged if panel[-1]]
    if not shown:
        return False
    with picture(path, len(shown), title) as (_, axes):
        for axis, (name, ylabel, limits, lines) in zip(axes, shown, strict=True):
            for key, look in lines.items():
                epochs, values = series(history, key)
                axis.plot(epochs, values, marker="o" if len(epochs) <= MARKED_UP_TO else None, markersize=3, **look)
            if name == RATIO:
                axis.axhline(1, color="grey", linewidth=0.8)
            if ylabel is None:
                percent_axis(axis, "accuracy", limits=limits)
            else:
                axis.set(ylabel=ylabel, **({} if limits == (None, None) else {"ylim": limits}))
            axis.set_title(name)
            epoch_axis(axis)
    return True


def main_quantities(found: Sequence[Quantity]) -> list[Quantity]:
    """The first titled quantity of each method, of all modalities: what one panel can hold; method by method."""
    named = [quantity for quantity in found if quantity.is_named]
    first: dict[str, Title] = {}
    for quantity in named:
        first.setdefault(quantity.method, quantity.title)
    return [own for method in first for own in named if (own.method, own.title) == (method, first[method])]


def with_margin(low: float | None, high: float | None) -> Limits:
    """Limits of an axis, with a margin where both ends are given, so that a curve along an end is seen."""
    if low is None or high is None:
        return low, high
    return low - 0.02 * (high - low), high + 0.02 * (high - low)
