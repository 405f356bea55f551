"""Several runs in one picture: their trainings, the probes of their encoders, and what missing modalities cost.

Paper Fig. 1 (probes), Fig. 4 (loss), Fig. 5 (ratio), Fig. 6 (missing modalities) and Fig. 7 (drop probability and
ratio). A line per run, the mean over its seeds, with a band or bars of one standard deviation. `histories` is the log
of every seed, per run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ..analysis.seed_means import mean_curve
from .curves import MARKED_UP_TO, series, with_margin
from .quantities import quantities
from .style import (
    JOINT,
    JOINT_COLOUR,
    Styles,
    epoch_axis,
    panel_title,
    percent_axis,
    percent_text,
    picture,
    run_styles,
)

History = Sequence[Mapping[str, Any]]  # `TrainerState.log_history`
Histories = Mapping[str, Sequence[History]]  # every seed's, by run
Probe = Mapping[str, Any]  # what probe.json holds
ALONE = "trained alone"
Missing = Mapping[str, Any]  # what missing.json holds
MOST_TICKS = 9  # as many rates as the paper has; more labels would overlap
MOST_GRIDS = 12  # panels; with more, those of the smallest fixed rate are drawn


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


def grid_title(grid: Mapping[str, Any]) -> str:
    """`10 % of audio missing`."""
    return f"{100 * grid['fixed_rate']:g} % of {grid['fixed']} missing"


def grid_points(runs: Sequence[Missing], key: tuple[str, float, str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rates, mean accuracy and its spread: over the runs if there are several, else over the run's masks.

    Args:
        runs: every seed's `missing.json`.
        key: fixed modality, its rate and the varied modality.

    Returns:
        `(n,)` each, at the rates that all runs with such a grid have; the spreads NaN for one run with one mask.
    """
    grids = [
        pd.DataFrame(grid).drop_duplicates("rates").set_index("rates")
        for run in runs
        for grid in run["grids"]
        if grid_key(grid) == key
    ]
    if not grids:
        return (np.empty(0),) * 3
    accuracies = pd.concat([grid["accuracy"] for grid in grids], axis=1, join="inner").sort_index()
    spreads = accuracies.std(axis=1) if len(grids) > 1 else grids[0]["std"].astype(float).sort_index()
    return accuracies.index.to_numpy(), accuracies.mean(axis=1).to_numpy(), spreads.to_numpy()


def grid_key(grid: Mapping[str, Any]) -> tuple[str, float, str]:
    """What tells grids apart."""
    return grid["fixed"], grid["fixed_rate"], grid["varied"]


def grid_keys(missing: Mapping[str, Sequence[Missing]]) -> list[tuple[str, float, str]]:
    """Every grid that can be shown of any run, in the order in which they first appear."""
    keys = dict.fromkeys(grid_key(g) for seeds in missing.values() for run in seeds for g in run["grids"])
    return [key for key in keys if any(len(grid_points(seeds, key)[0]) for seeds in missing.values())]


def drawn_keys(missing: Mapping[str, Sequence[Missing]]) -> list[tuple[str, float, str]]:
    """The grids that a picture has room for: all, or of too many those of the smallest fixed rate."""
    keys = grid_keys(missing)
    return keys if len(keys) <= MOST_GRIDS else [key for key in keys if key[1] == min(rate for _, rate, _ in keys)]


def plot_missing(missing: Mapping[str, Sequence[Missing]], path: str | Path, styles: Styles | None = None) -> None:
    """Draws accuracy over the share of samples that lack one modality (paper Fig. 6), a panel per share of another.

    Args:
        missing: every seed's `missing.json`, per run, all made alike; at least one has a grid. Error bars are standard
            deviations over seeds, or over masks where there is one seed.
    """
    keys = drawn_keys(missing)
    styles = styles or run_styles(missing)
    with picture(path, len(keys), columns=2 if len(keys) <= 4 else 3, sharey=True) as (_, axes):
        for axis, key in zip(axes, keys, strict=True):
            fixed, rate, varied = key
            ticks: set[float] = set()
            for label, runs in missing.items():
                rates, means, spreads = grid_points(runs, key)
                if len(rates):
                    bars = None if np.isnan(spreads).all() else spreads
                    axis.errorbar(rates, means, yerr=bars, label=label, capsize=2, elinewidth=0.8, **styles[label])
                    ticks.update(rates.tolist())
            percent_axis(axis, f"{varied} missing", which="x", limits=(None, None))
            if len(ticks) <= MOST_TICKS:
                every = 1 if len(ticks) < 6 else 2
                axis.set_xticks(sorted(ticks)[::every], map(percent_text, sorted(ticks)[::every]))
            percent_axis(axis, "accuracy", limits=(None, None))
            axis.set_title(grid_title({"fixed": fixed, "fixed_rate": rate}))
