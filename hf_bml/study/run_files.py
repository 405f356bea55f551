"""What finished runs have left in their folders; nothing is loaded but JSON and YAML."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..training.checkpoint import SET_ASIDE
from .experiment import CONFIG_NAME
from .json_file import read_json
from .recipe_yaml import RecipeLoader
from .resumption import METRICS_NAME

DEEPEST = 3  # levels of folders below a given one that are searched: RECIPE/METHOD-HASH/seed-SEED


@dataclass
class RunFiles:
    """What a run has left in its folder.

    Attributes:
        folder: the run's folder.
        options: `config.yaml`, the options that differ from the defaults.
        result: `metrics.json`.
        config: `config.json`, the model's.
        history: the log of `trainer_state.json`.
        probe, missing: `probe.json` and `missing.json`, None where there is none.
        analyses: `analysis_<split>.json` by split.
        robustness: `robustness_<split>.json` by split.
    """

    folder: Path
    options: dict[str, Any]
    result: dict[str, Any]
    config: dict[str, Any]
    history: list[dict[str, Any]]
    probe: dict[str, Any] | None = None
    missing: dict[str, Any] | None = None
    analyses: dict[str, dict[str, Any]] = field(default_factory=dict)
    robustness: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def modalities(self) -> list[str]:
        """The model's modalities in its order."""
        return list(self.config.get("modality_order") or self.config.get("modalities") or self.result["final_ratios"])

    @property
    def fold(self) -> int | None:
        """The fold that was tested; None without a cut into folds."""
        return self.result.get("protocol", {}).get("fold")

    @property
    def unit(self) -> int:
        """What an interval counts: the fold, else the seed."""
        return self.result["seed"] if self.fold is None else self.fold

    @property
    def number(self) -> str:
        """The seed, and the fold if there is one, as tables have them."""
        return str(self.result["seed"]) + ("" if self.fold is None else f", fold {self.fold}")

    @property
    def checkpoints(self) -> list[str]:
        """Names of the checkpoints that are still there."""
        return sorted(path.name for path in self.folder.glob("checkpoint-*"))


def find_runs(path: Path, depth: int = DEEPEST) -> tuple[list[Path], list[Path]]:
    """The folders of finished and of unfinished runs at or below a folder."""
    if (path / METRICS_NAME).is_file():
        return [path], []
    if any(path.glob("checkpoint-*")):
        return [], [path]
    finished, unfinished = [], []
    for folder in sorted(path.iterdir(), key=lambda folder: natural_order(folder.name)) if depth else []:
        if folder.is_dir() and not folder.name.startswith((".", SET_ASIDE)):
            below = find_runs(folder, depth - 1)
            finished += below[0]
            unfinished += below[1]
    return finished, unfinished


def natural_order(name: str) -> list[tuple[int, str]]:
    """`seed-2` before `seed-10`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def read_run(folder: Path) -> RunFiles:
    """Reads a finished run's files.

    Raises:
        ValueError: a file is damaged, or one that every run has is missing.
    """
    entries = ("test", "validation", "final_ratios", "seed", "environment", "train_seconds")
    result = read_json(folder / METRICS_NAME, *entries)
    path = folder / CONFIG_NAME
    try:
        options = yaml.load(path.read_text(encoding="utf-8"), Loader=RecipeLoader)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    optional = {name: folder / f"{name}.json" for name in ("probe", "missing")}
    return RunFiles(
        folder,
        options,
        result,
        config=read_json(folder / "config.json"),
        history=read_json(folder / "trainer_state.json", "log_history")["log_history"],
        analyses=by_split(folder, "analysis"),
        robustness=by_split(folder, "robustness"),
        **{name: read_json(path) for name, path in optional.items() if path.is_file()},
    )


def by_split(folder: Path, what: str) -> dict[str, dict[str, Any]]:
    """What the files `<what>_<split>.json` of a folder hold."""
    return {path.stem.removeprefix(f"{what}_"): read_json(path) for path in sorted(folder.glob(f"{what}_*.json"))}
