"""The training in a report: losses, accuracies, times, balance, and what the modulations did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from ...figures import overlaid_curves
from ...figures.bars import plot_times
from ...study.run_files import RunGroup, flattened, histories_of, modalities_of
from ..figure_folder import FigureFolder
from ..page import Figure, Table, Text
from ..verdict import listed
from .results import text

MANY_ROWS = 25  # of a table that the reader opens


def training_parts(groups: Sequence[RunGroup], figures: FigureFolder) -> list[Any]:
    """Losses, accuracies on validation, and times."""
    histories, rows = histories_of(groups), [group.row for group in groups]
    keys, labels = overlaid_curves.keys_of(histories), listed(histories)
    parts: list[Any] = not_logged(groups, "loss", "training loss", "logging")
    parts += not_logged(groups, "eval_loss", "validation loss and accuracy", "eval")
    band = " Bands are one standard deviation over seeds." if any(len(row.runs) > 1 for row in rows) else ""
    if "loss" in keys or "eval_loss" in keys:
        path = figures.path("loss")
        overlaid_curves.plot_losses(histories, path, figures.styles)
        parts.append(Figure(path, f"Loss over the training (paper Fig. 4).{band}", f"Loss curves of {labels}."))
    if "eval_accuracy" in keys:
        caption = f"Validation accuracy of all modalities, and of each alone through the joint head.{band}"
        path = figures.path("validation")
        overlaid_curves.plot_validation_accuracies(histories, modalities_of(groups), path, figures.styles)
        parts.append(Figure(path, caption, f"Validation accuracy over the training of {labels}."))
    if len(groups) > 1 and any(len(row.values("train_seconds")) for row in rows):
        caption = (
            "Time relative to the first run, estimation left out (paper Table 4): of a typical epoch without "
            "evaluations where all runs have it, else of the whole training. Only times of one idle machine compare."
        )
        path = figures.path("time")
        plot_times(rows, path)
        parts.append(Figure(path, caption, f"Bars of the training times of {labels}."))
    lines = []
    for label, result in [(group.label, run.result) for group in groups for run in group.runs]:
        note = "interrupted, the time is of the last part" if result.get("resumed_from") else ""
        seconds, device = f"{result['train_seconds']:.1f}", result["environment"]["device"]
        lines.append([label, str(result["seed"]), seconds, device, note])
    header = ["run", "seed", "training, seconds", "device", "note"]
    parts.append(Table("Wall-clock time of every training.", header, lines, folded=True))
    return parts


def balance_parts(groups: Sequence[RunGroup], figures: FigureFolder) -> list[Any]:
    """Discrepancy ratios, and what the modulations did."""
    several = [group for group in groups if len(group.modalities) > 1]
    if not several:
        return []
    histories, modalities = histories_of(several), modalities_of(several)
    keys, labels = overlaid_curves.keys_of(histories), listed(histories)
    parts: list[Any] = not_logged(several, "balance/ratio_", "discrepancy ratio", "logging")
    if any(f"balance/ratio_{modality}" in keys for modality in modalities):
        caption = (
            "Discrepancy ratio of each modality (paper Eq. 7, Fig. 5), mean over the steps of an epoch: above 1, the "
            "modality is more discriminative than the others are on average."
        )
        path = figures.path("ratio")
        overlaid_curves.plot_ratios(histories, modalities, path, figures.styles)
        parts.append(Figure(path, caption, f"Discrepancy ratios over the training of {labels}."))
    modulated = {group.label: histories[group.label] for group in several if group.first.options.get("modulations")}
    shown = overlaid_curves.modulation_quantities(modulated, modalities)
    if shown:
        path = figures.path("modulation")
        overlaid_curves.plot_modulations(modulated, modalities, path, figures.styles)
        caption = "What the modulations did (paper Fig. 7), means over the steps of an epoch."
        parts.append(Figure(path, caption, f"Over the training of {listed(modulated)}: {listed(shown.values())}."))
        parts.append(Table("The same, mean over the training and at its end.", *modulation_table(modulated, shown)))
    summaries = [
        [group.label, str(run.result["seed"]), name, fact, text(value)]
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
            values = [found for history in seeds if (found := [entry[key] for entry in history if key in entry])]
            if values:
                overall, last = fmean(map(fmean, values)), fmean(found[-1] for found in values)
                lines.append([label, title, f"{overall:.3f}", f"{last:.3f}"])
    return ["run", "quantity", "mean", "end"], lines
