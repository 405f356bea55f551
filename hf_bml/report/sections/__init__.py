"""The sections of a report on runs of one data set, in their order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...study.run_groups import RunGroup
from ..figure_folder import FigureFolder
from ..page import Section
from .analyses import (
    calibration_parts,
    class_parts,
    embedding_parts,
    shapley_parts,
)
from .facts import absent_parts, environment_parts, incomplete_parts
from .missing import missing_parts
from .probes import probe_parts
from .results import paper_parts, result_parts, setting_parts
from .robustness import robustness_parts
from .sensitivity import sensitivity_parts
from .summary import summary_parts
from .training import balance_parts, training_parts


def build_sections(
    groups: Sequence[RunGroup], split: str, metric: str, figures: FigureFolder, sweeps: Sequence[Path] = ()
) -> list[Section]:
    """All sections on runs of one data set; what a run lacks is named in the last one.

    Args:
        groups: the first one is what the others are compared to.
        split: of the analyses of classes.
        metric: of the paired differences.
        figures: where they go.
        sweeps: what `find_sweeps` has found.
    """
    return [
        Section("summary", "In short", summary_parts(groups, split)),
        Section("results", "Results", result_parts(groups, metric, figures)),
        Section("robustness", "Noisy and missing modalities", robustness_parts(groups, figures)),
        Section("paper", "The paper's numbers", paper_parts(groups)),
        Section("sensitivity", "Sensitivity to options", sensitivity_parts(sweeps, figures)),
        Section("settings", "Settings", setting_parts(groups)),
        Section("training", "Training", training_parts(groups, figures)),
        Section("balance", "Balance and modulation", balance_parts(groups, figures)),
        Section("probes", "Linear probes", probe_parts(groups, figures)),
        Section("missing", "Missing modalities", missing_parts(groups, figures)),
        Section("classes", "Classes", class_parts(groups, split, figures)),
        Section("calibration", "Calibration", calibration_parts(groups, split, figures)),
        Section("contributions", "Contribution of each modality", shapley_parts(groups, split, figures)),
        Section("features", "Features", embedding_parts(groups, split, figures)),
        Section("data", "Left-out samples and failures", incomplete_parts(groups)),
        Section("environment", "Environment", environment_parts(groups)),
        Section("absent", "Not in this report", absent_parts(groups, split)),
    ]
