"""What `hf-bml analyse` found, in a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from ...figures import classes as class_figures
from ...figures import dots, embedding_scatter, reliability
from ...figures.style import JOINT, panel_title
from ...study.run_groups import RunGroup, analyses_of, modalities_of, per_group
from ..figure_folder import FigureFolder
from ..page import Table, Text
from ..verdict import listed, percent
from .facts import MANY_ROWS
from .results import NOISE_TEXT


def class_parts(groups: Sequence[RunGroup], split: str, figures: FigureFolder) -> list[Any]:
    """Accuracy per class and confusions."""
    analyses = analyses_of(groups, split)
    if not analyses:
        return []
    classes = next(iter(analyses.values()))[0]["classes"]
    shown = len(class_figures.select_classes(analyses))
    caption = (
        f"Accuracy per class on {split} (paper Fig. 8), of all modalities and of each alone as the model estimates "
        f"it: means, {NOISE_TEXT.format(groups[0].row.unit)}."
    )
    if shown < len(classes):
        caption += (
            f" Shown are the {shown} of {len(classes)} classes where one modality leads most in the first run; the "
            "tables have all, with their numbers in the matrices below."
        )
    text = f"Dots of the accuracy per class of {listed(analyses)}."
    parts: list[Any] = [figures.draw("classes", caption, text, class_figures.plot_classes, analyses)]
    for label, seeds in analyses.items():
        parts.append(Table(f"{label}: accuracy per class in per cent.", *class_figures.class_rows(seeds), folded=True))
    for number, (label, seeds) in enumerate(analyses.items()):
        counts = summed_confusion(seeds)
        worst = class_figures.most_confused(counts, classes, 1)
        most = f" Most often taken for another: {worst[0][0]} for {worst[0][1]}." if worst else ""
        summed = f", summed over {len(seeds)} seeds" if len(seeds) > 1 else ""
        caption = f"{label}: confusion on {split}{summed}, in per cent of the true class.{most}"
        text, data = f"Confusion matrix of {label}.{most}", (class_figures.plot_confusion, counts, classes)
        parts.append(figures.draw(f"confusion_{number}", caption, text, *data, styled=False, wide=False))
    for label, seeds in analyses.items():
        pairs = class_figures.most_confused(summed_confusion(seeds), classes)
        lines = [[true, taken, str(count), percent(share)] for true, taken, count, share in pairs]
        header = ["true class", "predicted as", "samples", "share of the class"]
        parts.append(Table(f"{label}: most frequent confusions.", header, lines, folded=True))
    return parts


def summed_confusion(seeds: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """The confusion matrices of several seeds as one."""
    return np.sum([seed["confusion"] for seed in seeds], axis=0).tolist()


def calibration_parts(groups: Sequence[RunGroup], split: str, figures: FigureFolder) -> list[Any]:
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
    lines = []
    for label in labels:
        errors = [[found["ece"] for found in runs.get(label, [])] for runs in calibrations.values()]
        lines.append([label, *[f"{100 * fmean(values):.1f}" if values else "-" for values in errors]])
    caption = (
        f"Accuracy over the confidence of predictions on {split}, in bins: below the dotted line a prediction claims "
        "more than it keeps. Bins of fewer than ten samples are left out, and only neighbours are joined. Below: how "
        "many samples have which confidence."
    )
    text = f"Reliability diagrams of {listed(labels)}."
    title = "Expected calibration error in percentage points, mean over seeds; 0 is perfect."
    return [
        figures.draw("calibration", caption, text, reliability.plot_reliability, calibrations),
        Table(title, ["run", *[panel_title(name) for name in names]], lines),
    ]


def shapley_parts(groups: Sequence[RunGroup], split: str, figures: FigureFolder) -> list[Any]:
    """Shapley values, and the accuracies behind them."""
    several = [group for group in groups if len(group.modalities) > 1]
    found = per_group(several, lambda run: run.analyses.get(split, {}).get("shapley"))
    if not found:
        return []
    coalitions = list(dict.fromkeys(name for seeds in found.values() for seed in seeds for name in seed["coalitions"]))
    lines = []
    for name in coalitions:
        values = [
            [seed["coalitions"][name] for seed in seeds if name in seed["coalitions"]] for seeds in found.values()
        ]
        cells = [percent(fmean(own)) if own else "-" for own in values]
        lines.append([name.replace("+", " + ") or "none", *cells])
    caption = (
        f"Shapley value of each modality on {split}: its mean gain in accuracy over all orders of adding modalities. "
        "The values of a run add up to its accuracy with all modalities minus that with none."
    )
    text = f"Dots of the Shapley values of {listed(found)}."
    title = "Accuracy with only these modalities present, mean over seeds."
    return [
        figures.draw("shapley", caption, text, dots.plot_shapley, found, styled=False),
        Table(title, ["present", *found], lines, folded=len(lines) > MANY_ROWS),
    ]


def embedding_parts(groups: Sequence[RunGroup], split: str, figures: FigureFolder) -> list[Any]:
    """t-SNE of every modality's features, of the first seed."""
    parts: list[Any] = []
    for number, group in enumerate(groups):
        run = next((run for run in group.runs if run.analyses.get(split, {}).get("tsne")), None)
        if run is not None:
            analysis = run.analyses[split]
            seed = f", seed {run.number}" if len(group.runs) > 1 else ""
            caption = f"{group.label}{seed}: t-SNE of each modality's features on {split}, coloured by class."
            text = f"Scatter plots of the features of {group.label}."
            data = (embedding_scatter.plot_embeddings, analysis["tsne"], analysis["classes"])
            parts.append(figures.draw(f"features_{number}", caption, text, *data, styled=False))
    if parts:
        parts.append(Text("Distances between clusters and their sizes mean little in t-SNE; neighbourhoods do."))
    return parts
