"""The sections of a report, made of finished runs of one data set; figures are drawn on the way."""

from __future__ import annotations

import json
import math
import shlex
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from ..analysis import (
    bars,
    class_bars,
    confusion_matrix,
    embedding_scatter,
    missing_curves,
    overlaid_curves,
    probe_curves,
    reliability,
    shapley_bars,
)
from ..analysis.comparison import comparison_cells, comparison_notes
from ..analysis.figure_style import JOINT, panel_title
from ..analysis.paper_results import matching_results, paper_dataset, paper_method, paper_results
from ..analysis.report_page import Cards, Figure, Section, Table, Text
from ..analysis.verdict import Evidence, percent, verdict
from .run_files import RunGroup, flattened

MANY_ROWS = 25  # of a table that the reader opens
MANY_RUNS = 5  # from here on, one of the intervals may miss 0 by chance
METRIC_NAMES = {"accuracy": "accuracy", "mean_average_precision": "mAP", "f1_weighted": "weighted F1"}


@dataclass
class Drawing:
    """Where figures go and what their names begin with.

    Attributes:
        folder: for the PNGs.
        prefix: tells data sets apart.
    """

    folder: Path
    prefix: str = ""

    def __call__(
        self, name: str, caption: str, alternative: str, draw: Callable[[Path], Any], wide: bool = True
    ) -> Figure:
        """Draws a figure into `<folder>/<prefix><name>.png`."""
        path = self.folder / f"{self.prefix}{name}.png"
        draw(path)
        return Figure(path, caption, alternative, wide)


def build_sections(groups: Sequence[RunGroup], split: str, metric: str, draw: Drawing) -> list[Section]:
    """All sections on runs of one data set; what a run lacks is named in the last one.

    Args:
        groups: the first one is what the others are compared to.
        split: of the analyses of classes.
        metric: of the paired differences.
        draw: where figures go.
    """
    return [
        Section("summary", "In short", summary_parts(groups, split)),
        Section("results", "Results", result_parts(groups, metric, draw)),
        Section("paper", "The paper's numbers", paper_parts(groups)),
        Section("settings", "Settings", setting_parts(groups)),
        Section("training", "Training", training_parts(groups, draw)),
        Section("balance", "Balance and modulation", balance_parts(groups, draw)),
        Section("probes", "Linear probes", probe_parts(groups, draw)),
        Section("missing", "Missing modalities", missing_parts(groups, draw)),
        Section("classes", "Classes", class_parts(groups, split, draw)),
        Section("calibration", "Calibration", calibration_parts(groups, split, draw)),
        Section("contributions", "Contribution of each modality", shapley_parts(groups, split, draw)),
        Section("features", "Features", embedding_parts(groups, split, draw)),
        Section("data", "Left-out samples and failures", incomplete_parts(groups)),
        Section("environment", "Environment", environment_parts(groups)),
        Section("absent", "Not in this report", absent_parts(groups, split)),
    ]


def modalities_of(groups: Sequence[RunGroup]) -> list[str]:
    """Every modality of any run."""
    return list(dict.fromkeys(modality for group in groups for modality in group.modalities))


def per_group(groups: Sequence[RunGroup], pick: Callable[[Any], Any]) -> dict[str, list[Any]]:
    """What `pick` finds in every run, by the group's label; without groups that have nothing."""
    found = {group.label: [value for run in group.runs if (value := pick(run))] for group in groups}
    return {label: values for label, values in found.items() if values}


def histories_of(groups: Sequence[RunGroup]) -> dict[str, list[Any]]:
    """Every run's log by the group's label."""
    return {group.label: [run.history for run in group.runs] for group in groups}


def analyses_of(groups: Sequence[RunGroup], split: str) -> dict[str, list[Any]]:
    """Every run's analysis of a split by the group's label."""
    return per_group(groups, lambda run: run.analyses.get(split))


def listed(labels: Sequence[str]) -> str:
    """`a, b and c`, for a figure's alternative text."""
    labels = list(labels)
    return labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} and {labels[-1]}"


# In short


def evidence(group: RunGroup, groups: Sequence[RunGroup], split: str) -> Evidence:
    """What a verdict on a group rests on; where no probe says what training alone reaches, a report's run of one
    modality does."""
    probes = [run.probe for run in group.runs if run.probe]
    single = {other.modalities[0]: other.row.mean("accuracy") for other in groups if len(other.modalities) == 1}
    finals, alone = {}, {}
    for modality in group.modalities:
        values = [v for probe in probes if (v := probe_curves.final_probe(probe, modality)) is not None]
        if values:
            finals[modality] = fmean(values)
        values = [v for probe in probes if (v := probe_curves.final_alone(probe, modality)) is not None]
        if values or modality in single:
            alone[modality] = fmean(values) if values else single[modality]
    samples = next((run.analyses[split]["samples"] for run in group.runs if split in run.analyses), None)
    return Evidence(group.row, group.modalities, finals, alone, samples if split == "test" else None)


def summary_parts(groups: Sequence[RunGroup], split: str) -> list[Any]:
    """A card per run: what it shows, and against the first one."""
    all_evidence = [evidence(group, groups, split) for group in groups]
    first = all_evidence[0]
    cards = [
        (group.label + (" (all others are compared to this one)" if index == 0 and len(groups) > 1 else ""),
         verdict(own, first if index else None))
        for index, (group, own) in enumerate(zip(groups, all_evidence, strict=True))
    ]  # fmt: skip
    parts: list[Any] = [Cards(cards)]
    if any(len(group.runs) > 1 for group in groups):
        parts.append(Text("Numbers are means over seeds; intervals are Student's, of differences paired by seed."))
    if len(groups) > MANY_RUNS:
        parts.append(
            Text(
                f"{len(groups) - 1} runs are compared to one: about one in twenty 95 % intervals excludes 0 by chance "
                "and the best of many is not as good as it looks."
            )
        )
    mixed = [group.label for group in groups if len({run.result.get("fingerprint") for run in group.runs}) > 1]
    if mixed:
        parts.append(Text(f"The seeds of {listed(mixed)} were trained with different options or versions."))
    return parts


# Results


def result_parts(groups: Sequence[RunGroup], metric: str, draw: Drawing) -> list[Any]:
    """The table of all metrics and the bars."""
    rows = [group.row for group in groups]
    header, lines = comparison_cells(rows, metric)
    header[0] = "run"
    parts: list[Any] = []
    if any("accuracy" in run for run in rows[0].runs):
        caption = "Test accuracy of all modalities, and of each alone through the joint head."
        parts.append(draw("accuracy", caption, f"Bars of the accuracies of {listed([r.label for r in rows])}.",
                          lambda path: bars.plot_bars(rows, path)))  # fmt: skip
    unit = "Test split; accuracies, mAP and F1 times 100"
    spread = ", mean ± standard deviation over seeds" if any(len(row.runs) > 1 for row in rows) else ""
    parts.append(Table(f"{unit}{spread}.", header, lines))
    notes = [note for note in comparison_notes(rows, metric)[1:] if "Student" not in note]
    seeds = "; ".join(f"{row.label}: {', '.join(map(str, row.seeds))}" for row in rows)
    parts.append(Text(lines=[f"Seeds: {seeds}.", *notes]))
    return parts


def paper_parts(groups: Sequence[RunGroup]) -> list[Any]:
    """The paper's results on the same data set beside ours, and everything that it reports for it."""
    first = groups[0]
    dataset = paper_dataset(first.dataset, str(first.first.options.get("task", "classification")))
    if dataset is None:
        return []
    lines = []
    for group in groups:
        method = paper_method(group.first.options, group.modalities)
        for metric, result in matching_results(dataset, method).items():
            ours = group.row.mean(metric)
            own = "-" if math.isnan(ours) else f"{100 * ours:.1f}"
            name = METRIC_NAMES[metric]
            lines.append([group.label, name, own, f"{result.value:.1f}", result.method, f"Table {result.table}"])
    parts: list[Any] = []
    if lines:
        header = ["run", "metric", "here", "paper", "the paper's row", "source"]
        parts.append(Table(f"{dataset}, per cent.", header, lines))
    else:
        parts.append(Text(f"The paper reports {dataset}, but none of these methods on these models."))
    parts.append(
        Text(
            "The paper gives single numbers without spread. Encoders, splits and length of training may differ from "
            "these runs (see the settings): compare the order of methods first."
        )
    )
    every = [[f"Table {r.table}", r.method, r.metric, f"{r.value:g}"] for r in paper_results() if r.dataset == dataset]
    parts.append(
        Table(f"Everything the paper reports for {dataset}.", ["source", "row", "metric", "value"], every, True)
    )
    return parts


# Settings


def setting_parts(groups: Sequence[RunGroup]) -> list[Any]:
    """What differs between the runs first, then what they share."""
    options = {group.label: group.options for group in groups}
    names = list(dict.fromkeys(name for own in options.values() for name in own))
    differing = [name for name in names if len({text(own.get(name)) for own in options.values()}) > 1]
    parts: list[Any] = []
    if len(groups) > 1 and differing:
        rows = [
            [name, *[text(own[name]) if name in own else "default" for own in options.values()]] for name in differing
        ]
        parts.append(Table("Options in which the runs differ.", ["option", *options], rows))
    elif len(groups) > 1:
        parts.append(Text("The runs have the same options."))
    shared = [[name, text(options[groups[0].label][name])] for name in names if name not in differing]
    caption = "Options that all runs share; what is not listed is at its default."
    parts.append(Table(caption, ["option", "value"], shared, folded=len(groups) > 1))
    return parts


def text(value: Any) -> str:
    """An option's value as YAML or JSON would write it."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


# Training


def training_parts(groups: Sequence[RunGroup], draw: Drawing) -> list[Any]:
    """Losses, accuracies on validation, and times."""
    histories, rows = histories_of(groups), [group.row for group in groups]
    keys, labels = overlaid_curves.keys_of(histories), listed(list(histories))
    parts: list[Any] = []
    band = " Bands are one standard deviation over seeds." if any(len(row.runs) > 1 for row in rows) else ""
    if "loss" in keys or "eval_loss" in keys:
        parts.append(draw("loss", f"Loss over the training (paper Fig. 4).{band}", f"Loss curves of {labels}.",
                          lambda path: overlaid_curves.plot_losses(histories, path)))  # fmt: skip
    if "eval_accuracy" in keys:
        caption = f"Validation accuracy of all modalities, and of each alone through the joint head.{band}"
        draw_it = overlaid_curves.plot_validation_accuracies
        parts.append(draw("validation", caption, f"Validation accuracy over the training of {labels}.",
                          lambda path: draw_it(histories, modalities_of(groups), path)))  # fmt: skip
    if len(groups) > 1 and any(len(row.values("train_seconds")) for row in rows):
        caption = (
            "Training time relative to the first run, estimation left out (paper Table 4). Only times of one machine "
            "that did nothing else compare; the first run of a command also pays for warming up."
        )
        parts.append(draw("time", caption, f"Bars of the training times of {labels}.",
                          lambda path: bars.plot_times(rows, path)))  # fmt: skip
    lines = []
    for label, result in [(group.label, run.result) for group in groups for run in group.runs]:
        note = "interrupted, the time is of the last part" if result.get("resumed_from") else ""
        seconds, device = f"{result['train_seconds']:.1f}", result["environment"]["device"]
        lines.append([label, str(result["seed"]), seconds, device, note])
    header = ["run", "seed", "training, seconds", "device", "note"]
    parts.append(Table("Wall-clock time of every training.", header, lines, folded=True))
    return parts


# Balance


def balance_parts(groups: Sequence[RunGroup], draw: Drawing) -> list[Any]:
    """Discrepancy ratios, and what the modulations did."""
    several = [group for group in groups if len(group.modalities) > 1]
    if not several:
        return []
    histories, modalities = histories_of(several), modalities_of(several)
    keys, labels = overlaid_curves.keys_of(histories), listed(list(histories))
    parts: list[Any] = []
    if any(f"balance/ratio_{modality}" in keys for modality in modalities):
        caption = (
            "Discrepancy ratio of each modality (paper Eq. 7, Fig. 5), mean over the steps of an epoch: above 1, the "
            "modality is more discriminative than the others are on average."
        )
        parts.append(draw("ratio", caption, f"Discrepancy ratios over the training of {labels}.",
                          lambda path: overlaid_curves.plot_ratios(histories, modalities, path)))  # fmt: skip
    modulated = {group.label: histories[group.label] for group in several if group.first.options.get("modulations")}
    shown = overlaid_curves.modulation_quantities(modulated, modalities)
    if shown:
        names = listed([textwrap.shorten(title, 60) for title in shown.values()])
        parts.append(draw("modulation", "What the modulations did (paper Fig. 7), means over the steps of an epoch.",
                          f"Over the training of {listed(list(modulated))}: {names}.",
                          lambda path: overlaid_curves.plot_modulations(modulated, modalities, path)))  # fmt: skip
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


# Analyses


def probe_parts(groups: Sequence[RunGroup], draw: Drawing) -> list[Any]:
    """Probes over the training and at its end."""
    probed = [group for group in groups if any(run.probe for run in group.runs)]
    if not probed:
        return []
    probes = per_group(probed, lambda run: run.probe)
    modalities = modalities_of(probed)
    splits = listed(sorted({probe["split"] for seeds in probes.values() for probe in seeds}))
    caption = (
        f"A linear classifier, trained anew on each frozen encoder's features, on {splits} (paper Fig. 1); dashed: a "
        "model trained on the modality alone."
    )
    parts: list[Any] = [
        draw("probes", caption, f"Probe accuracies over the training of {listed(list(probes))}.",
             lambda path: probe_curves.plot_probes(probes, modalities, path, histories_of(probed)))
    ]  # fmt: skip
    lines = []
    for label, seeds in probes.items():
        for modality in modalities:
            finals = [v for probe in seeds if (v := probe_curves.final_probe(probe, modality)) is not None]
            alone = [v for probe in seeds if (v := probe_curves.final_alone(probe, modality)) is not None]
            if finals:
                gap = f"{100 * (fmean(finals) - fmean(alone)):+.1f}" if alone else "-"
                lines.append([label, modality, percent(fmean(finals)), percent(fmean(alone)) if alone else "-", gap])
    header = ["run", "encoder", "probe, last checkpoint", "trained alone", "difference, points"]
    parts.append(Table(f"Probe accuracy, {splits}, mean over seeds.", header, lines))
    return parts


def missing_parts(groups: Sequence[RunGroup], draw: Drawing) -> list[Any]:
    """Accuracy with missing modalities."""
    missing = per_group(groups, lambda run: run.missing)
    keys = missing_curves.grid_keys(missing)
    if not keys:
        return []
    parts: list[Any] = [
        draw("missing", "Accuracy when samples lack a modality at random (paper Fig. 6); all runs see the same masks.",
             f"Accuracy over the share of missing modalities of {listed(list(missing))}.",
             lambda path: missing_curves.plot_missing(missing, path))
    ]  # fmt: skip
    for key in keys:
        rates = sorted({rate for seeds in missing.values() for run in seeds for grid in run["grids"]
                        if missing_curves.grid_key(grid) == key for rate in grid["rates"]})  # fmt: skip
        lines = []
        for label, seeds in missing.items():
            if any(missing_curves.grid_key(grid) == key for run in seeds for grid in run["grids"]):
                found, means, spreads = missing_curves.grid_points(seeds, key)
                cells = {r: f"{100 * m:.1f} ± {100 * s:.1f}" for r, m, s in zip(found, means, spreads, strict=True)}
                complete = fmean(run["complete"] for run in seeds)
                lines.append([label, f"{100 * complete:.1f}", *[cells.get(rate, "-") for rate in rates]])
        fixed, rate, varied = key
        title = missing_curves.grid_title({"fixed": fixed, "fixed_rate": rate})
        header = ["run", "nothing missing", *[f"{varied} {100 * r:g} %" for r in rates]]
        parts.append(Table(f"Accuracy in per cent, {title}.", header, lines, folded=True))
    return parts


def class_parts(groups: Sequence[RunGroup], split: str, draw: Drawing) -> list[Any]:
    """Accuracy per class and confusions."""
    analyses = analyses_of(groups, split)
    if not analyses:
        return []
    classes = next(iter(analyses.values()))[0]["classes"]
    shown = len(class_bars.select_classes(analyses))
    few = (
        f" Shown are {shown} of {len(classes)} classes, those where one modality leads most in the first run; all of "
    )
    few = f"{few}them are in the tables." if shown < len(classes) else ""
    caption = (
        f"Accuracy per class on {split} (paper Fig. 8), of all modalities and of each alone as the model estimates it."
        f"{few}"
    )
    parts: list[Any] = [
        draw("classes", caption, f"Bars of the accuracy per class of {listed(list(analyses))}.",
             lambda path: class_bars.plot_classes(analyses, path))
    ]  # fmt: skip
    for label, seeds in analyses.items():
        parts.append(Table(f"{label}: accuracy per class in per cent.", *class_bars.class_rows(seeds), folded=True))
    for number, (label, seeds) in enumerate(analyses.items()):
        counts = [[sum(cells) for cells in zip(*rows, strict=True)]
                  for rows in zip(*[seed["confusion"] for seed in seeds], strict=True)]  # fmt: skip
        worst = confusion_matrix.most_confused(counts, classes, 1)
        most = f" Most often taken for another: {worst[0][0]} for {worst[0][1]}." if worst else ""
        summed = f", summed over {len(seeds)} seeds" if len(seeds) > 1 else ""
        caption = f"{label}: confusion on {split}{summed}, in per cent of the true class.{most}"
        parts.append(draw(f"confusion_{number}", caption, f"Confusion matrix of {label}.{most}",
                          lambda path, counts=counts: confusion_matrix.plot_confusion(counts, classes, path),
                          wide=False))  # fmt: skip
    for label, seeds in analyses.items():
        counts = [[sum(cells) for cells in zip(*rows, strict=True)]
                  for rows in zip(*[seed["confusion"] for seed in seeds], strict=True)]  # fmt: skip
        lines = [[true, taken, str(count), percent(share)]
                 for true, taken, count, share in confusion_matrix.most_confused(counts, classes)]  # fmt: skip
        header = ["true class", "predicted as", "samples", "share of the class"]
        parts.append(Table(f"{label}: most frequent confusions.", header, lines, folded=True))
    return parts


def calibration_parts(groups: Sequence[RunGroup], split: str, draw: Drawing) -> list[Any]:
    """Reliability diagrams and expected calibration errors."""
    calibrations: dict[str, dict[str, list[Any]]] = {}
    for label, seeds in analyses_of(groups, split).items():
        for seed in seeds:
            for name, found in (seed.get("calibration") or {}).items():
                if found is not None and any(b["count"] for b in found["bins"]):
                    calibrations.setdefault(name, {}).setdefault(label, []).append(found)
    if not calibrations:
        return []
    names = [name for name in (JOINT, *modalities_of(groups)) if name in calibrations]
    calibrations = {name: calibrations[name] for name in names}
    labels = list(dict.fromkeys(label for runs in calibrations.values() for label in runs))
    lines = [
        [label, *[f"{100 * fmean(c['ece'] for c in runs[label]):.1f}" if label in runs else "-"
                  for runs in calibrations.values()]]
        for label in labels
    ]  # fmt: skip
    caption = (
        f"Accuracy over the confidence of predictions on {split}, in bins: below the dotted line a prediction claims "
        "more than it keeps. The lower row shows how many samples have which confidence."
    )
    return [
        draw("calibration", caption, f"Reliability diagrams of {listed(labels)}.",
             lambda path: reliability.plot_reliability(calibrations, path)),
        Table("Expected calibration error in percentage points, mean over seeds; 0 is perfect.",
              ["run", *[panel_title(name) for name in names]], lines),
    ]  # fmt: skip


def shapley_parts(groups: Sequence[RunGroup], split: str, draw: Drawing) -> list[Any]:
    """Shapley values, and the accuracies behind them."""
    found = {
        label: values
        for label, seeds in analyses_of(groups, split).items()
        if (
            values := [seed["shapley"] for seed in seeds if seed.get("shapley") and len(seed["shapley"]["values"]) > 1]
        )
    }
    if not found:
        return []
    coalitions = list(dict.fromkeys(name for seeds in found.values() for seed in seeds for name in seed["coalitions"]))
    lines = [
        [label, *[percent(fmean(s["coalitions"][name] for s in seeds)) if name in seeds[0]["coalitions"] else "-"
                  for name in coalitions]]
        for label, seeds in found.items()
    ]  # fmt: skip
    caption = (
        f"Shapley value of each modality on {split}: its mean gain in accuracy over all orders in which modalities can "
        "be added. The values of a run add up to its accuracy with all modalities minus that with none."
    )
    return [
        draw("shapley", caption, f"Bars of the Shapley values of {listed(list(found))}.",
             lambda path: shapley_bars.plot_shapley(found, path)),
        Table("Accuracy with only these modalities present, mean over seeds.",
              ["run", *[name.replace("+", " + ") or "none" for name in coalitions]], lines),
    ]  # fmt: skip


def embedding_parts(groups: Sequence[RunGroup], split: str, draw: Drawing) -> list[Any]:
    """t-SNE of every modality's features, of the first seed."""
    parts: list[Any] = []
    for number, group in enumerate(groups):
        run = next((run for run in group.runs if run.analyses.get(split, {}).get("tsne")), None)
        if run is not None:
            analysis = run.analyses[split]
            seed = f", seed {run.result['seed']}" if len(group.runs) > 1 else ""
            caption = f"{group.label}{seed}: t-SNE of each modality's features on {split}, coloured by class."
            parts.append(draw(f"features_{number}", caption, f"Scatter plots of the features of {group.label}.",
                              lambda path, a=analysis: embedding_scatter.plot_embeddings(a["tsne"], a["classes"], path),
                              ))  # fmt: skip
    if parts:
        parts.append(Text("Distances between clusters and their sizes mean little in t-SNE; neighbourhoods do."))
    return parts


# Data and environment


def incomplete_parts(groups: Sequence[RunGroup]) -> list[Any]:
    """Samples that were left out, and files that could not be used."""
    left_out, failures = [], []
    for group in groups:
        for run in group.runs:
            for split, reasons in run.result.get("left_out", {}).items():
                left_out += [[group.label, split, reason, str(len(names)), shortened(names)]
                             for reason, names in reasons.items()]  # fmt: skip
            for split, reasons in run.result.get("failures", {}).items():
                entries = reasons.items() if isinstance(reasons, Mapping) else [("", reasons)]
                failures += [[group.label, str(split), str(name), shortened(value)] for name, value in entries]
    parts: list[Any] = []
    for caption, header, lines in (
        ("Samples that the data set lacks.", ["run", "split", "reason", "samples", "which"], left_out),
        ("Files that could not be used.", ["run", "where", "what", "why"], failures),
    ):
        unique = [list(line) for line in dict.fromkeys(map(tuple, lines))]  # seeds of a run share them
        if unique:
            parts.append(Table(caption, header, unique, folded=len(unique) > MANY_ROWS))
    return parts or [Text("No sample was left out, and every file could be used.")]


def shortened(names: Any) -> str:
    """The first few of many names."""
    if isinstance(names, (list, tuple)):
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        return ", ".join(map(str, names[:5])) + more
    return textwrap.shorten(text(names), 300, placeholder=" …")


def environment_parts(groups: Sequence[RunGroup]) -> list[Any]:
    """Versions and machines; one column where all runs agree."""
    found = {group.label: [run.result["environment"] for run in group.runs] for group in groups}
    keys = list(dict.fromkeys(key for runs in found.values() for own in runs for key in own))
    cells = {
        label: [", ".join(dict.fromkeys(str(own.get(key, "-")) for own in runs)) for key in keys]
        for label, runs in found.items()
    }
    if len({tuple(own) for own in cells.values()}) == 1:
        rows = [[key, value] for key, value in zip(keys, next(iter(cells.values())), strict=True)]
        return [Table("Of all runs.", ["", "value"], rows)]
    rows = [[key, *[own[index] for own in cells.values()]] for index, key in enumerate(keys)]
    return [Table("Versions and machines.", ["", *cells], rows)]


def absent_parts(groups: Sequence[RunGroup], split: str) -> list[Any]:
    """What runs lack, with the commands that make it."""
    wanted = {
        "Linear probes": ("hf-bml probe {}", lambda run: run.probe or len(run.modalities) < 2),
        "Accuracy with missing modalities": ("hf-bml missing {}", lambda run: run.missing or len(run.modalities) < 2),
        f"Classes, calibration, contributions and features on {split}": (
            "hf-bml analyse {}" + ("" if split == "test" else f" --split {split}"),
            lambda run: split in run.analyses,
        ),
    }
    parts: list[Any] = []
    for what, (command, has) in wanted.items():
        folders = [run.folder for group in groups for run in group.runs if not has(run)]
        if folders:
            total = sum(len(group.runs) for group in groups)
            count = f"{len(folders)} of {total} runs" if len(folders) < total else "all runs"
            commands = [command.format(shlex.quote(str(folder))) for folder in folders]
            parts.append(Text(f"{what}: missing for {count}. They are made by", commands, code=True))
    if any(len(group.runs) == 1 for group in groups):
        single = [group.label for group in groups if len(group.runs) == 1]
        parts.append(
            Text(
                f"Spread over seeds of {listed(single)}: one seed was run. hf-bml train RECIPE --seeds 0 1 2 runs more."
            )
        )
    return parts
