"""The training in a report: losses, accuracies, times, balance, and what the modulations did."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from statistics import fmean
from typing import Any

from ...figures.dots import plot_times
from ...figures.overlaid_curves import keys_of, plot_losses, plot_modulations, plot_ratios, plot_validation_accuracies
from ...figures.quantities import quantities
from ...study.run_groups import RunGroup, flattened, histories_of, modalities_of
from ..figure_folder import FigureFolder
from ..page import Table, Text
from ..verdict import listed
from .facts import MANY_ROWS
from .results import as_written


def training_parts(groups: Sequence[RunGroup], figures: FigureFolder) -> list[Any]:
    """Losses, accuracies on validation, and times."""
    histories, rows = histories_of(groups), [group.row for group in groups]
    keys, labels = keys_of(histories), listed(histories)
    parts: list[Any] = not_logged(groups, "loss", "training loss", "logging")
    parts += not_logged(groups, "eval_loss", "validation loss and accuracy", "eval")
    band = f" Bands are one standard deviation over {rows[0].unit}s." if any(len(row.runs) > 1 for row in rows) else ""
    if "loss" in keys or "eval_loss" in keys:
        caption, text = (
            f"Loss on training batches and on validation (paper Fig. 4).{band}",
            f"Loss curves of {labels}.",
        )
        parts.append(figures.draw("loss", caption, text, plot_losses, histories))
    if "eval_accuracy" in keys:
        caption = f"Validation accuracy of all modalities, and of each alone through the joint head.{band}"
        text, data = f"Validation accuracy over the training of {labels}.", (histories, modalities_of(groups))
        parts.append(figures.draw("validation", caption, text, plot_validation_accuracies, *data))
    if len(groups) > 1 and any(len(row.values("train_seconds")) for row in rows):
        caption = (
            "Time relative to the reference, estimation left out (paper Table 4): of a typical epoch without "
            "evaluations where all runs have it, else of the whole training. Only times of one idle machine compare."
        )
        text = f"Dots of the training times of {labels}."
        parts.append(figures.draw("time", caption, text, plot_times, rows, styled=False))
    lines = []
    for label, run in [(group.label, run) for group in groups for run in group.runs]:
        note = "interrupted, the time is of the last part" if run.result.get("resumed_from") else ""
        seconds, device = f"{run.result['train_seconds']:.1f}", run.result["environment"]["device"]
        lines.append([label, run.number, seconds, device, note])
    header = ["run", "seed", "training, seconds", "device", "note"]
    parts.append(Table("Wall-clock time of every training.", header, lines, folded=True))
    return parts


def balance_parts(groups: Sequence[RunGroup], figures: FigureFolder) -> list[Any]:
    """Discrepancy ratios, and what the modulations did."""
    several = [group for group in groups if len(group.modalities) > 1]
    if not several:
        return []
    histories, modalities = histories_of(several), modalities_of(several)
    keys, labels = keys_of(histories), listed(histories)
    parts: list[Any] = not_logged(several, "balance/ratio_", "discrepancy ratio", "logging")
    if any(f"balance/ratio_{modality}" in keys for modality in modalities):
        caption = (
            "Discrepancy ratio of each modality (paper Eq. 7, Fig. 5), measured on training batches, mean over the "
            "steps of an epoch: above 1, the modality is more discriminative than the others are on average."
        )
        text = f"Discrepancy ratios over the training of {labels}."
        parts.append(figures.draw("ratio", caption, text, plot_ratios, histories, modalities))
    paths = {name for group in several for name in group.first.options.get("modulations") or {} if ":" in name}
    for path in sorted(paths):
        with suppress(Exception):  # a method of one's own says what its quantities are called, if it can be imported
            importlib.import_module(path.partition(":")[0])
    modulated = {group.label: histories[group.label] for group in several if group.first.options.get("modulations")}
    shown = {found.key: str(found) for found in quantities(keys_of(modulated), modalities)}
    if shown:
        caption = "What the modulations did (paper Fig. 7), measured on training batches, mean over an epoch's steps."
        text = f"Over the training of {listed(modulated)}: {listed(shown.values())}."
        parts.append(figures.draw("modulation", caption, text, plot_modulations, modulated, modalities))
        parts.append(Table("The same, mean over the training and at its end.", *modulation_table(modulated, shown)))
    summaries = [
        [group.label, run.number, name, fact, as_written(value)]
        for group in several
        for run in group.runs
        for name, facts in run.result.get("modulations", {}).items()
        for fact, value in flattened(facts).items()
    ]
    if summaries:
        header = ["run", "seed", "modulation", "fact", "value"]
        parts.append(Table("What modulations recorded.", header, summaries, folded=len(summaries) > MANY_ROWS))
    return parts


def not_logged(groups: Sequence[RunGroup], prefix: str, what: str, kind: str) -> list[Text]:
    """A line on the runs that logged nothing whose name begins with `prefix`, and the options that caused it.

    Args:
        groups: of runs.
        prefix: of what is missing.
        what: the same in words.
        kind: `logging` or `eval`, as in `logging_strategy` and `logging_steps`.
    """
    lines = []
    for group in groups:
        history, options = group.first.history, group.first.options
        if any(key.startswith(prefix) for run in group.runs for entry in run.history for key in entry):
            continue
        names = [name for name in (f"{kind}_strategy", f"{kind}_steps") if name in options]
        asked = ", ".join(f"{name}: {options[name]}" for name in names) or f"neither {kind}_strategy nor {kind}_steps"
        steps = max((entry["step"] for entry in history if "step" in entry), default=None)
        lines.append(f"{group.label}: {asked}" + (f", in a training of {steps} steps" if steps else ""))
    if not lines:
        return []
    return [Text(f"No {what} was logged during the training of these runs, so it is not shown. Their options:", lines)]


def modulation_table(histories: Mapping[str, Sequence[Any]], shown: Mapping[str, str]) -> tuple[list[str], list[Any]]:
    """Header and lines: every logged quantity's mean over the training and over its last log."""
    lines = []
    for label, seeds in histories.items():
        for key, title in shown.items():
            logged = [values for history in seeds if (values := [entry[key] for entry in history if key in entry])]
            if logged:
                overall, last = fmean(map(fmean, logged)), fmean(values[-1] for values in logged)
                lines.append([label, title, f"{overall:.3f}", f"{last:.3f}"])
    return ["run", "quantity", "mean", "end"], lines
