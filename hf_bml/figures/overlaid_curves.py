"""Several trainings in one picture: a line per run, the mean over its seeds, with a band of one standard deviation.

Paper Fig. 4 (loss), Fig. 5 (ratio) and Fig. 7 (drop probability and ratio). `histories` is the log of every seed, per
run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from ..analysis.seed_means import mean_curve
from .curves import MARKED_UP_TO, series, with_margin
from .quantities import quantities
from .style import (
    JOINT,
    Styles,
    epoch_axis,
    panel_title,
    percent_axis,
    picture,
    run_styles,
)

History = Sequence[Mapping[str, Any]]  # `TrainerState.log_history`
Histories = Mapping[str, Sequence[History]]  # every seed's, by run


def keys_of(histories: Histories) -> list[str]:
    """Every key that any run has logged, in the order in which they first appear."""
    return list(dict.fromkeys(k for seeds in histories.values() for seed in seeds for entry in seed for k in entry))


def draw_mean(axis: Axes, curves: Iterable[tuple[Sequence[float], Sequence[float]]], label: str, **style: Any) -> None:
    """Draws the mean of curves and a band of one standard deviation, if there is anything to draw."""
    places, means, spreads = mean_curve(curves)
    if not len(places):
        return
    few = len(places) <= MARKED_UP_TO
    axis.plot(places, means, label=label, **{**style, "marker": style.get("marker") if few else None})
    if not np.isnan(spreads).all():
        spreads = np.nan_to_num(spreads)
        axis.fill_between(places, means - spreads, means + spreads, color=style.get("color"), alpha=0.13, linewidth=0)


def draw_runs(axis: Axes, histories: Histories, key: str, styles: Styles | None) -> None:
    """A line per run that has logged the key, in the run's own style."""
    styles = styles or run_styles(histories)
    for label, seeds in histories.items():
        draw_mean(axis, [series(history, key) for history in seeds], label, **styles[label])


@contextmanager
def run_panels(
    histories: Histories, titles: Mapping[str, str], path: str | Path, styles: Styles | None, **options: Any
) -> Iterator[dict[str, Axes]]:
    """A picture with a panel over the epochs per logged key of `titles`; yields the panels by key.

    Args:
        titles: of the panels, by key.
        options: of `picture`.
    """
    shown = [key for key in titles if key in keys_of(histories)]
    with picture(path, len(shown), **options) as (_, axes):
        for axis, key in zip(axes, shown, strict=True):
            draw_runs(axis, histories, key, styles)
            axis.set_title(titles[key])
            epoch_axis(axis)
        yield dict(zip(shown, axes, strict=True))


def plot_losses(histories: Histories, path: str | Path, styles: Styles | None = None) -> None:
    """Draws training and validation loss over the epochs (paper Fig. 4) into a PNG."""
    titles = {"loss": "training loss", "eval_loss": "validation loss"}
    with run_panels(histories, titles, path, styles) as panels:
        for axis in panels.values():
            axis.set_ylabel("loss (nats)")


def plot_validation_accuracies(
    histories: Histories, modalities: Sequence[str], path: str | Path, styles: Styles | None = None
) -> None:
    """Draws the validation accuracy of all modalities and of each alone, through the joint head, into a PNG."""
    titles = {"eval_accuracy": panel_title(JOINT), **{f"eval_accuracy_{m}": panel_title(m) for m in modalities}}
    with run_panels(histories, titles, path, styles, sharey=True) as panels:
        for axis in panels.values():
            percent_axis(axis, "validation accuracy", limits=(0, 1.02))


def plot_ratios(
    histories: Histories, modalities: Sequence[str], path: str | Path, styles: Styles | None = None
) -> None:
    """Draws each modality's discrepancy ratio over the epochs (paper Fig. 5) into a PNG; 1 is balance."""
    titles = {f"balance/ratio_{modality}": modality for modality in modalities}
    with run_panels(histories, titles, path, styles) as panels:
        for axis in panels.values():
            axis.axhline(1, color="grey", linewidth=0.9)
            axis.set_ylabel("ratio on training batches")
            axis.set_ylim(0, None)


def plot_modulations(
    histories: Histories, modalities: Sequence[str], path: str | Path, styles: Styles | None = None
) -> bool:
    """Draws what the modulations did (paper Fig. 7 a) into a PNG: a panel per quantity and modality.

    Returns:
        whether there was anything to draw.
    """
    every = quantities(keys_of(histories), modalities)
    if not every:
        return False
    together = list(dict.fromkeys((found.method, found.title) for found in every))
    shown = {found.key: found for kind in together for found in every if (found.method, found.title) == kind}
    shape = {"columns": 3 if len(modalities) in (3, 6) or len(modalities) > 8 else 2 if len(modalities) < 3 else 4}
    titles = {key: str(found) for key, found in shown.items()}
    with run_panels(histories, titles, path, styles, **shape) as panels:
        for key, axis in panels.items():
            title = shown[key].title
            axis.set_ylabel(title.axis)
            axis.set_ylim(*with_margin(title.low, title.high))
    return True
