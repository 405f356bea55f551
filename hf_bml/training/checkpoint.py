"""Which checkpoints are complete: a killed process leaves half-written ones, a bad disk damaged ones.

The trainer first removes what lies in the checkpoint's folder (`remove_checkpoint`). When every process has written
its files, it flushes them to the disk and lists them with size and hash in `checkpoint_manifest.json`
(`seal_checkpoint`). `trainer_state.json` comes last, and only then are older checkpoints deleted; the manifest gets
its hash at the very end (`seal_state`). A checkpoint is complete if it has both, and each listed file is what was
written. Earlier manifests list sizes only: there the states are opened instead.

A folder without manifest comes from `transformers.Trainer` or an earlier version, or its deletion was cut off. It is
complete if it has `trainer_state.json` (which the Trainer also writes last), weights, and the states of optimizer and
scheduler, none of them damaged as far as their formats tell. What this cannot see is that a smaller part, such as a
random state, is missing.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import shutil
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import TrainerState
from transformers.trainer import TRAINER_STATE_NAME, TRAINING_ARGS_NAME
from transformers.trainer_pt_utils import safe_globals
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

MANIFEST_NAME = "checkpoint_manifest.json"
SET_ASIDE = "earlier_training"
CHECKPOINT_PATTERN = re.compile(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)")
# What a checkpoint without manifest needs; a `global_step*` folder is DeepSpeed's and holds all three.
PARTS = {
    "weights": ("*model*.safetensors*", "*pytorch_model*", "global_step*"),
    "optimizer state": ("*optimizer*", "global_step*"),
    "scheduler state": ("scheduler.pt", "global_step*"),
}
# Mappings that `torch.load(weights_only=True)` reads; those of DeepSpeed and FSDP are not.
STATES = re.compile(r"(optimizer|scheduler|scaler|modulation_state|log_state)\.pt|rng_state(_\d+)?\.pth")
# What `resume_from_checkpoint` may say instead of a folder.
AUTO, LAST = "auto", "last"
NEWEST_CHECKPOINT = ("true", "yes", "last", "latest")
NO_RESUME = ("none", "", "false", "no", "off", "0")
NAMED_DAMAGES = 3  # in one message
CHUNK = 2**20  # bytes that are hashed at once
_ALLOWING = Lock()  # what torch may unpickle is one list for all threads


def remove_checkpoint(folder: str | Path) -> None:
    """Deletes the folder, if there is one; if that is interrupted, what is left is not complete."""
    folder = Path(folder)
    (folder / TRAINER_STATE_NAME).unlink(missing_ok=True)
    if folder.exists():
        shutil.rmtree(folder)


def seal_checkpoint(folder: str | Path) -> None:
    """Flushes all files of a checkpoint to the disk and writes the manifest.

    To be called when all processes have written everything but `trainer_state.json`.
    """
    folder = Path(folder)
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    unlisted = (MANIFEST_NAME, TRAINER_STATE_NAME, TRAINING_ARGS_NAME)  # the last one is never read again
    names = [name for name in files if name not in unlisted]
    with ThreadPoolExecutor() as pool:
        entries = dict(zip(names, pool.map(flushed_entry, [files[name] for name in names]), strict=True))
    manifest = folder / MANIFEST_NAME
    manifest.write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
    flushed_entry(manifest)


def seal_state(folder: str | Path) -> None:
    """Adds `trainer_state.json`, once it is written, to the manifest of a sealed checkpoint."""
    manifest = Path(folder, MANIFEST_NAME)
    entries = json.loads(manifest.read_text(encoding="utf-8"))
    entries[TRAINER_STATE_NAME] = flushed_entry(Path(folder, TRAINER_STATE_NAME))
    unfinished = manifest.with_name(f"{MANIFEST_NAME}.part")
    unfinished.write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
    unfinished.replace(manifest)


def flushed_entry(path: Path) -> dict[str, Any]:
    """A file's entry in the manifest, after its content has reached the disk."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
        return {"size": os.fstat(file.fileno()).st_size, "blake2b": digest(path)}


def digest(path: Path) -> str:
    """Hash of a file's content, 32 hexadecimal digits."""
    found = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            found.update(chunk)
    return found.hexdigest()


def find_damage(folder: str | Path) -> list[str]:
    """What a checkpoint lacks, a phrase for each missing or damaged file; empty if it is complete."""
    folder = Path(folder)
    if not folder.is_dir():
        return ["there is no such folder"]
    by_manifest = (folder / MANIFEST_NAME).is_file()
    damage = [
        *(compare_to_manifest(folder) if by_manifest else check_parts(folder)),
        *check_file(folder / TRAINER_STATE_NAME),
    ]
    return list(dict.fromkeys(damage))


def is_complete(folder: str | Path) -> bool:
    """Whether a training can resume from this checkpoint."""
    return not find_damage(folder)


def compare_to_manifest(folder: Path) -> list[str]:
    """Listed files that are missing or not what was written."""
    try:
        entries = json.loads((folder / MANIFEST_NAME).read_text(encoding="utf-8"))
        entries = {name: {"size": entry} if isinstance(entry, int) else dict(entry) for name, entry in entries.items()}
        sizes = {name: int(entry["size"]) for name, entry in entries.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return [f"{MANIFEST_NAME} is damaged"]
    if not entries:
        return [f"{MANIFEST_NAME} lists no files"]
    with ThreadPoolExecutor() as pool:
        found = pool.map(partial(compare_file, folder), entries, sizes.values(), entries.values())
    return [phrase for phrases in found for phrase in phrases]


def compare_file(folder: Path, name: str, size: int, entry: Mapping[str, Any]) -> list[str]:
    """A phrase if a file is not what its entry in the manifest says."""
    path = folder / name
    if not path.is_file():
        return [f"{name} is missing"]
    if path.stat().st_size != size:
        return [f"{name} has {path.stat().st_size} bytes instead of {size}"]
    if "blake2b" not in entry:
        return check_file(path)
    try:
        return [] if digest(path) == entry["blake2b"] else [f"{name} has changed since it was written"]
    except OSError as error:
        return [f"{name} cannot be read ({error.strerror})"]


def check_parts(folder: Path) -> list[str]:
    """Parts of PARTS that have no file, and damaged files of parts and of other states."""
    damage = []
    for part, patterns in PARTS.items():
        files = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
        if not files:
            damage.append(f"no {part}")
        for path in files:
            damage += check_file(path) or check_shards(path)
    for path in sorted(folder.iterdir()):
        if STATES.fullmatch(path.name):
            damage += check_file(path)
    return damage


def check_shards(index: Path) -> list[str]:
    """Files of weights that an index names and that are missing."""
    if not index.name.endswith(".index.json"):
        return []
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (AttributeError, KeyError, TypeError):
        return [f"{index.name} is damaged"]
    return [f"{name} is missing" for name in sorted(names) if not (index.parent / name).is_file()]


def check_file(path: Path) -> list[str]:
    """A phrase if the file is missing or, as far as its format tells, damaged."""
    if not path.exists():
        return [f"{path.name} is missing"]
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt"):  # compares the header with the file's size
                return []
        if path.name == TRAINER_STATE_NAME:
            state = json.loads(path.read_text(encoding="utf-8"))
            is_whole = isinstance(TrainerState(**state).global_step, int) and "global_step" in state
        elif path.suffix == ".json":
            is_whole = json.loads(path.read_text(encoding="utf-8")) is not None
        elif STATES.fullmatch(path.name):
            with _ALLOWING, safe_globals():  # no values are read: a `meta` tensor has none
                state = torch.load(path, map_location="meta", weights_only=True, mmap=True)
            is_whole = isinstance(state, Mapping)
        else:
            is_whole = path.suffix not in (".pt", ".bin") or zipfile.is_zipfile(path)
    except OSError as error:
        return [f"{path.name} cannot be read ({error.strerror or error})"]
    except (SafetensorError, ValueError, TypeError, RuntimeError, EOFError, KeyError, pickle.UnpicklingError):
        is_whole = False
    return [] if is_whole else [f"{path.name} is damaged"]


def damage_text(damage: Sequence[str]) -> str:
    """The first few phrases, and how many there are besides."""
    more = len(damage) - NAMED_DAMAGES
    return ", ".join(damage[:NAMED_DAMAGES]) + (f" and {more} more" if more > 0 else "")


def check_checkpoint(folder: str | Path) -> None:
    """Raises ValueError, saying what is missing or damaged, unless the checkpoint is complete."""
    damage = find_damage(folder)
    if damage:
        raise ValueError(
            f"resume_from_checkpoint: {str(folder)!r} is not a complete checkpoint: {damage_text(damage)}. Expected a "
            "folder `checkpoint-STEP` as the Trainer writes it (without save_only_model), or `auto` for the newest "
            f"complete one in output_dir. If its files were changed on purpose, delete its {MANIFEST_NAME}."
        )


def resume_request(value: str | bool | None) -> str | None:
    """What `resume_from_checkpoint` asks for: `auto`, `last`, a checkpoint's folder, or None to start from scratch.

    Example:
        >>> [resume_request(value) for value in (True, "Auto", "false", "runs/opm/checkpoint-9")]
        ['last', 'auto', None, 'runs/opm/checkpoint-9']
    """
    text = str(value).lower().strip()
    if text in NO_RESUME:
        return None
    if text in NEWEST_CHECKPOINT:
        return LAST
    return AUTO if text == AUTO else str(value)


def resume_point(value: str | bool | None, output_dir: str | Path) -> str | None:
    """The checkpoint that a training resumes from; None if it starts from scratch.

    Args:
        value: `auto` for the newest complete checkpoint in `output_dir`, if there is one; `last` or True for one that
            must be there; a checkpoint's folder; None, False or `false` to start from scratch.
        output_dir: of the training.

    Raises:
        ValueError: the given checkpoint is not complete, or there is none.
    """
    request = resume_request(value)
    if request is None:
        return None
    if request not in (AUTO, LAST):
        check_checkpoint(request)
        return request
    newest = newest_complete_checkpoint(output_dir)
    if newest is None and request == LAST:
        raise ValueError(no_checkpoint(str(output_dir)))
    return newest


def no_checkpoint(places: str) -> str:
    """The error for a missing checkpoint."""
    return (
        f"resume_from_checkpoint: expected a complete checkpoint-STEP, found none in {places}. Use "
        "resume_from_checkpoint=auto, which starts from scratch without one."
    )


def set_checkpoints_aside(output_dir: str | Path, results: Sequence[Path] = (), copied: Sequence[Path] = ()) -> None:
    """Moves all `checkpoint-STEP` into `SET_ASIDE`, or the first of `SET_ASIDE_2`, ... that is free; warns if it does.

    A training from scratch would otherwise mix with an earlier one in its folder: the largest step counts as the
    newest, and the oldest are deleted first.

    Args:
        output_dir: the training's folder.
        results, copied: files of an earlier training that are moved, and that are copied, beside its checkpoints.
    """
    output_dir = Path(output_dir)
    folders = [f for f in output_dir.glob(f"{PREFIX_CHECKPOINT_DIR}-*") if CHECKPOINT_PATTERN.fullmatch(f.name)]
    if not (folders or results):
        return
    names = (SET_ASIDE if number == 1 else f"{SET_ASIDE}_{number}" for number in count(1))
    aside = next(output_dir / name for name in names if not os.path.lexists(output_dir / name))
    aside.mkdir()
    for path in copied:
        shutil.copy2(path, aside)
    for path in (*folders, *results):
        path.rename(aside / path.name)
    warnings.warn(
        f"{output_dir} held {len(folders)} checkpoints {'and results ' if results else ''}of an earlier training, "
        f"which are now in {aside}: this one starts from scratch. To resume a checkpoint, pass its folder as "
        "resume_from_checkpoint; a job that may be restarted says resume_from_checkpoint=auto.",
        stacklevel=2,
    )


def newest_complete_checkpoint(output_dir: str | Path) -> str | None:
    """The complete folder `checkpoint-STEP` with the largest STEP, or None; one warning of all newer ones."""
    steps = {}
    for folder in Path(output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        match = CHECKPOINT_PATTERN.fullmatch(folder.name)
        if match and folder.is_dir():
            steps[int(match[1])] = folder
    newest, skipped = None, []
    for step in sorted(steps, reverse=True):
        damage = find_damage(steps[step])
        if not damage:
            newest = steps[step]
            break
        skipped.append(f"{steps[step].name} ({damage_text(damage)})")
    if skipped:
        left = "none is left" if newest is None else f"the newest complete one is {newest.name}"
        warnings.warn(
            f"Checkpoints in {output_dir} that are not complete are skipped: {', '.join(skipped)}; {left}.",
            stacklevel=2,
        )
    return None if newest is None else str(newest)
