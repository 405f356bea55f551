"""Trainings of several runs in one picture: loss, accuracy, discrepancy ratio, what the modulations did.

Paper Fig. 4 (loss), Fig. 5 (ratio) and Fig. 7 (drop probability and ratio). A line per run, the mean over its seeds,
with a band of one standard deviation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from ..analysis.seed_means import mean_curve
from .curves import series
from .style import (
    JOINT,
    Styles,
    epoch_axis,
    finish_axis,
    legend_below,
    panel_title,
    panels,
    percent_axis,
    run_styles,
    save,
)

History = Sequence[Mapping[str, Any]]  # `TrainerState.log_history`
Histories = Mapping[str, Sequence[History]]  # every seed's, by run
NOT_MODULATIONS = ("balance", "unimodal")
QUANTITIES = {  # what a logged quantity is, and its axis
    "opm/drop_probability": ("OPM, drop probability", "probability"),
    "opm/drop_fraction": ("OPM, dropped share of samples", "share"),
    "ogm/coefficient": ("OGM, gradient coefficient", "factor"),
    "ogm_star/coefficient": ("OGM*, gradient coefficient", "factor"),
    "mod_drop/drop_fraction": ("ModDrop, dropped share of samples", "share"),
    "greedy/speed": ("Greedy, learning speed", "log10"),
    "greedy/rebalancing": ("Greedy, share of re-balancing steps", "share"),
}
HIDDEN = ("gradient_blending/estimation_seconds",)  # a time, in the tables


def keys_of(histories: Histories) -> list[str]:
    """Every key that any run has logged, in the order in which they first appear."""
    return list(dict.fromkeys(k for seeds in histories.values() for seed in seeds for entry in seed for k in entry))


def draw_mean(axis: Axes, curves: Iterable[tuple[Sequence[float], Sequence[float]]], label: str, **style: Any) -> bool:
    """Draws the mean of curves and a band of one standard deviation; returns whether there was anything to draw."""
    places, means, spreads = mean_curve(curves)
    if not len(places):
        return False
    few = len(places) <= 25
    axis.plot(places, means, label=label, **{**style, "marker": style.get("marker") if few else None})
    if not np.isnan(spreads).all():
        spreads = np.nan_to_num(spreads)
        axis.fill_between(places, means - spreads, means + spreads, color=style.get("color"), alpha=0.13, linewidth=0)
    return True


def plot_losses(histories: Histories, path: str | Path, styles: Styles | None = None) -> None:
    """Draws training and validation loss over the epochs (paper Fig. 4) into a PNG.

    Args:
        histories: the log of every seed, per run.
        path: the PNG.
        styles: line options per run; by default those of the runs shown.
    """
    names = {"loss": "training", "eval_loss": "validation"}
    shown = [key for key in names if key in keys_of(histories)]
    figure, axes = panels(len(shown))
    for axis, key in zip(axes, shown, strict=True):
        draw_runs(axis, histories, key, styles)
        axis.set(title=f"{names[key]} loss", ylabel="loss (nats)")
    finish(figure, axes, path)


def plot_validation_accuracies(
    histories: Histories, modalities: Sequence[str], path: str | Path, styles: Styles | None = None
) -> None:
    """Draws the validation accuracy of all modalities and of each alone, through the joint head, into a PNG.

    Args:
        histories: the log of every seed, per run.
        modalities: names.
        path: the PNG.
        styles: line options per run; by default those of the runs shown.
    """
    keys = {"eval_accuracy": JOINT, **{f"eval_accuracy_{modality}": modality for modality in modalities}}
    shown = [key for key in keys if key in keys_of(histories)]
    figure, axes = panels(len(shown), sharey=True)
    for axis, key in zip(axes, shown, strict=True):
        draw_runs(axis, histories, key, styles)
        axis.set(title=panel_title(keys[key]))
        percent_axis(axis, "validation accuracy", limits=(0, 1.02))
    finish(figure, axes, path)


def plot_ratios(
    histories: Histories, modalities: Sequence[str], path: str | Path, styles: Styles | None = None
) -> None:
    """Draws each modality's discrepancy ratio over the epochs (paper Fig. 5) into a PNG; 1 is balance.

    Args:
        histories: the log of every seed, per run.
        modalities: names.
        path: the PNG.
        styles: line options per run; by default those of the runs shown.
    """
    shown = [modality for modality in modalities if f"balance/ratio_{modality}" in keys_of(histories)]
    figure, axes = panels(len(shown))
    for axis, modality in zip(axes, shown, strict=True):
        draw_runs(axis, histories, f"balance/ratio_{modality}", styles)
        axis.axhline(1, color="grey", linewidth=0.9)
        axis.set(title=modality, ylabel="discrepancy ratio (1: balanced)")
        axis.set_ylim(0, None)
    finish(figure, axes, path)


def modulation_quantities(histories: Histories, modalities: Sequence[str]) -> dict[str, str]:
    """What modulations logged, as key to title.

    Example:
        >>> modulation_quantities({"opm": [[{"loss": 1.0, "opm/drop_probability_audio": 0.4}]]}, ["audio"])
        {'opm/drop_probability_audio': 'OPM, drop probability: audio'}
    """
    found = {}
    for key in keys_of(histories):
        method, slash, _ = key.partition("/")
        if not slash or method in NOT_MODULATIONS or key in HIDDEN:
            continue
        modality = next((m for m in sorted(modalities, key=len, reverse=True) if key.endswith(f"_{m}")), None)
        quantity = key.removesuffix(f"_{modality}") if modality else key
        title = QUANTITIES.get(quantity, (quantity.replace("/", ", ").replace("_", " "), ""))[0]
        found[key] = f"{title}: {modality}" if modality else title
    return found


def plot_modulations(
    histories: Histories, modalities: Sequence[str], path: str | Path, styles: Styles | None = None
) -> bool:
    """Draws what the modulations did (paper Fig. 7 a) into a PNG: a panel per quantity and modality.

    Args:
        histories: the log of every seed, per run.
        modalities: names.
        path: the PNG.
        styles: line options per run; by default those of the runs shown.

    Returns:
        whether there was anything to draw.
    """
    shown = modulation_quantities(histories, modalities)
    if not shown:
        return False
    figure, axes = panels(len(shown), columns=max(2, min(len(modalities), 4)), panel=(4.4, 3.0))
    for axis, (key, title) in zip(axes, shown.items(), strict=True):
        draw_runs(axis, histories, key, styles)
        quantity = next((name for name in QUANTITIES if key.startswith(name)), None)
        axis.set(title=title, ylabel=QUANTITIES[quantity][1] if quantity else "")
        low, high = axis.get_ylim()
        if low > -0.1 and high < 1.2:  # a probability or a share
            axis.set_ylim(-0.02, 1.02)
    finish(figure, axes, path)
    return True


def draw_runs(axis: Axes, histories: Histories, key: str, styles: Styles | None) -> None:
    """A line per run that has logged the key, in the run's own style."""
    styles = styles or run_styles(histories)
    for label, seeds in histories.items():
        draw_mean(axis, [series(history, key) for history in seeds], label, **styles[label])


def finish(figure: Any, axes: Sequence[Axes], path: str | Path) -> None:
    """What all these pictures share: the epochs' axis, the grid, one legend."""
    for axis in axes:
        epoch_axis(axis)
        finish_axis(axis)
    legend_below(figure, axes)
    save(figure, path)
