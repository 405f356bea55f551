"""Finished runs grouped as a reader compares them: rows of a comparison, and runs that differ in their seed only."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ..analysis.row import PLAIN, Row
from .methods import method_of
from .recorded_rows import parts_of, recorded_rows
from .resumption import METRICS_NAME
from .run_files import RunFiles, find_runs, natural_order, read_run
from .run_result import flat_result

WITHOUT_MEANING = ("output_dir", "seed", "fold")  # options that tell runs of one group apart
SEED_FOLDER = re.compile(r"seed-\d+")
METHOD_FOLDER = re.compile(r"(.+)-[0-9a-f]{8}")


@dataclass
class RunGroup:
    """Runs that differ in their seed, or fold, only.

    Attributes:
        label: what the report calls them.
        runs: at least one, by fold and seed.
        parts: groups of the models of one modality each that they have started or learned from.
    """

    label: str
    runs: list[RunFiles]
    parts: list[RunGroup] = field(default_factory=list)

    @property
    def first(self) -> RunFiles:
        """The run with the smallest seed."""
        return self.runs[0]

    @property
    def modalities(self) -> list[str]:
        """The model's modalities in its order."""
        return self.first.modalities

    @property
    def encoders(self) -> dict[str, dict[str, Any]]:
        """The options of each modality's encoder, as the model's config has them."""
        found = self.first.config.get("modalities") or {}
        return {modality: found.get(modality, {}) for modality in self.modalities}

    @property
    def options(self) -> dict[str, Any]:
        """The first run's options as a flat mapping, dotted names; without those that tell the seeds apart."""
        return flattened({k: v for k, v in self.first.options.items() if k not in WITHOUT_MEANING})

    @property
    def methods(self) -> str:
        """The modulations' names joined by `+`, behind what the run starts from; or `none`."""
        return method_of(self.first.options).names

    @property
    def dataset(self) -> str:
        """The data set's name."""
        return str(self.first.options["dataset"])

    @property
    def data(self) -> tuple[Any, ...]:
        """What the test results depend on beside the training: runs with equal ones can be compared."""
        keys = ("dataset", "dataset_options", "task", "folds")
        return tuple(json.dumps(self.first.options.get(key), sort_keys=True, default=str) for key in keys)

    @cached_property
    def row(self) -> Row:
        """The group as a row of a comparison, whose reference is the first one."""
        return Row(self.label, runs=[flat_result(run.result) for run in self.runs])

    @property
    def place(self) -> Path:
        """The run's folder, or the one above its seeds."""
        return self.first.folder.parent if len(self.runs) > 1 else self.first.folder


def read_groups(paths: Sequence[str | Path]) -> tuple[list[RunGroup], list[Path]]:
    """Reads runs, and folders of runs as `hf-bml train` and `hf-bml compare` write them.

    Runs in folders `seed-N` of one folder make a group, and so do the runs of a comparison's row, whose records lie
    above them. What only chose a setting there, or is a part of another run, makes none, unless its own folder is a
    path. The groups stand in the order of the paths; below one path, training without modulations comes first, and
    models of fewer modalities last.

    Returns:
        the groups, and folders with checkpoints but without a result: unfinished runs.

    Raises:
        FileNotFoundError: a path does not exist, or there is no finished run at or below it.
        ValueError: a file cannot be read.
    """
    found: dict[Path, list[RunFiles]] = {}
    parts: dict[Path, list[RunFiles]] = {}
    titles: dict[Path, str] = {}
    unfinished: list[Path] = []
    for path in map(Path, paths):
        if not path.is_dir():
            raise FileNotFoundError(f"{path} is not a folder; expected one that hf-bml train or hf-bml compare wrote.")
        folders, open_ones = find_runs(path)
        unfinished += [folder for folder in open_ones if folder not in unfinished]
        if not folders:
            started = f"; unfinished: {', '.join(map(str, open_ones))}" if open_ones else ""
            raise FileNotFoundError(
                f"{path} holds no finished run: no {METRICS_NAME} at or below it{started}. Give a folder that hf-bml "
                "train or hf-bml compare wrote."
            )
        known = {run.folder.resolve() for runs in found.values() for run in runs}
        once = {folder.resolve(): folder for folder in reversed(folders)}  # links may lead to one twice
        runs = [read_run(folder) for place, folder in reversed(once.items()) if place not in known]
        recorded, tried = recorded_rows(path, runs)
        rows = {row.file.resolve().with_suffix("") / row.title.replace("/", "_"): row for row in recorded}
        titles |= {key: row.title for key, row in rows.items()}
        in_rows = {run.folder for row in recorded for run in row.runs}
        names = set().union(*map(parts_of, runs))
        is_part = {run.folder: run.folder.resolve().parts[-2:] in names for run in runs}
        others = [run for run in runs if run.folder not in in_rows]
        parts |= by_folder([run for run in others if is_part[run.folder]])
        groups = by_folder([run for run in others if not is_part[run.folder] and run.folder not in tried])
        groups |= {key: row.runs for key, row in rows.items()}
        for key in sorted(groups, key=lambda key: group_order(key, groups[key][0], titles)):
            found.setdefault(key, []).extend(groups[key])
    for runs in (*found.values(), *parts.values()):
        runs.sort(key=lambda run: (run.fold or 0, run.result["seed"]))
    shown, alone = labelled(found, titles), labelled(parts, {})
    for group in shown:
        own = set().union(*map(parts_of, group.runs))
        group.parts = [part for part in alone if any(run.folder.resolve().parts[-2:] in own for run in part.runs)]
    return shown, unfinished


def by_folder(runs: Iterable[RunFiles]) -> dict[Path, list[RunFiles]]:
    """Runs by the folder above their seeds, where they are in folders `seed-N`; folds of one recipe by the first's."""
    groups: dict[Path, list[RunFiles]] = {}
    first_folds: dict[str, Path] = {}
    for run in runs:
        folder = run.folder.resolve()
        is_seed = SEED_FOLDER.fullmatch(folder.name) is not None
        key = folder.parent if is_seed else folder
        if is_seed and run.fold is not None:
            options = {name: value for name, value in run.options.items() if name not in WITHOUT_MEANING}
            same = json.dumps([str(key.parent), options], sort_keys=True, default=str)
            key = first_folds.setdefault(same, key)
        groups.setdefault(key, []).append(run)
    return groups


def group_order(key: Path, run: RunFiles, titles: Mapping[Path, str]) -> tuple[Any, ...]:
    """Most modalities first, then training without modulations, then rows of a comparison in their order, then by
    name."""
    place = list(titles).index(key) if key in titles else len(titles)
    name = [] if key in titles else natural_order(base_label(key, run))
    return -len(run.modalities), method_of(run.options).names != PLAIN, place, name


def labelled(found: Mapping[Path, list[RunFiles]], titles: Mapping[Path, str]) -> list[RunGroup]:
    """Groups with labels that differ: by title, method or folder, with options or folders above where that is not
    enough."""
    groups = [RunGroup(titles.get(key) or base_label(key, runs[0]), runs) for key, runs in found.items()]
    keys = list(found)
    for label in {group.label for group in groups}:
        same = [index for index, group in enumerate(groups) if group.label == label]
        if len(same) == 1:
            continue
        options = [groups[index].options for index in same]
        names = dict.fromkeys(name for own in options for name in own)
        varied = [name for name in names if len({str(own.get(name)) for own in options}) > 1]
        for index, own in zip(same, options, strict=True):
            texts = [f"{name}={own.get(name, 'default')}" for name in varied]
            groups[index].label = f"{label} ({', '.join(texts)})" if len(texts) in (1, 2, 3) else label
        taken = [groups[index].label for index in same]
        for index in same:
            if taken.count(groups[index].label) > 1:
                groups[index].label = f"{keys[index].parent.name}/{keys[index].name}"
    return groups


def base_label(key: Path, run: RunFiles) -> str:
    """The method with its options for a folder METHOD-HASH, the folder's name for any other."""
    match = METHOD_FOLDER.fullmatch(key.name)
    method = method_of(run.options)
    return method.label if match and set(match[1].split("+")) == set(method.names.split("+")) else key.name


def flattened(options: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted names.

    Example:
        >>> flattened({"modulations": {"opm": {"q_base": 0.5}}, "seed": 1})
        {'modulations.opm.q_base': 0.5, 'seed': 1}
    """
    flat: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, Mapping) and value:
            flat |= flattened(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def modalities_of(groups: Sequence[RunGroup]) -> list[str]:
    """Every modality of any run."""
    return list(dict.fromkeys(modality for group in groups for modality in group.modalities))


def per_group(groups: Sequence[RunGroup], pick: Callable[[Any], Any]) -> dict[str, list[Any]]:
    """What `pick` finds in every run, by the group's label; without groups that have nothing."""
    found = {group.label: [value for run in group.runs if (value := pick(run))] for group in groups}
    return {label: values for label, values in found.items() if values}


def share_text(count: int, total: int) -> str:
    """How many of a group's seeds have something.

    Example:
        >>> share_text(3, 3), share_text(1, 3)
        ('3', '1 of 3')
    """
    return str(count) if count == total else f"{count} of {total}"


def histories_of(groups: Sequence[RunGroup]) -> dict[str, list[Any]]:
    """Every run's log by the group's label."""
    return {group.label: [run.history for run in group.runs] for group in groups}


def analyses_of(groups: Sequence[RunGroup], split: str) -> dict[str, list[Any]]:
    """Every run's analysis of a split by the group's label."""
    return per_group(groups, lambda run: run.analyses.get(split))
