"""Finished runs grouped as a reader compares them: rows of a comparison, and runs that differ in their seed only."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..analysis.row import Row
from .methods import method_of
from .resumption import METRICS_NAME
from .run_files import RunFiles, find_runs, natural_order, read_run
from .run_result import flat_result

WITHOUT_MEANING = ("output_dir", "seed")  # options that tell runs of one group apart
SEED_FOLDER = re.compile(r"seed-\d+")
METHOD_FOLDER = re.compile(r"(.+)-[0-9a-f]{8}")


@dataclass
class RunGroup:
    """Runs that differ in their seed only.

    Attributes:
        label: what the report calls them.
        runs: at least one, by seed.
    """

    label: str
    runs: list[RunFiles]

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
        keys = ("dataset", "dataset_options", "task")
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

    Runs in folders `seed-N` of one folder make a group. The groups stand in the order of the paths; below one path,
    training without modulations comes first, and models of fewer modalities last.

    Returns:
        the groups, and folders with checkpoints but without a result: unfinished runs.

    Raises:
        FileNotFoundError: a path does not exist, or there is no finished run at or below it.
        ValueError: a file cannot be read.
    """
    found: dict[Path, list[RunFiles]] = {}
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
        groups: dict[Path, list[RunFiles]] = {}
        for folder in folders:
            key = folder.resolve().parent if SEED_FOLDER.fullmatch(folder.resolve().name) else folder.resolve()
            groups.setdefault(key, []).append(read_run(folder))
        for key in sorted(groups, key=lambda key: group_order(base_label(key, groups[key][0]), groups[key][0])):
            known = {run.folder.resolve() for run in found.get(key, [])}
            found.setdefault(key, []).extend(run for run in groups[key] if run.folder.resolve() not in known)
    for runs in found.values():
        runs.sort(key=lambda run: run.result["seed"])
    return labelled(found), unfinished


def group_order(label: str, run: RunFiles) -> tuple[Any, ...]:
    """Most modalities first, then training without modulations, then by name."""
    return -len(run.modalities), bool(run.options.get("modulations")), natural_order(label)


def labelled(found: Mapping[Path, list[RunFiles]]) -> list[RunGroup]:
    """Groups with labels that differ: by method or folder, with options or folders above where that is not enough."""
    groups = [RunGroup(base_label(key, runs[0]), runs) for key, runs in found.items()]
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
