"""Which checkpoint is complete: a killed process leaves half-written and half-deleted ones behind.

The trainer first removes what lies in the checkpoint's folder (`remove_checkpoint`). When every process has written
its files, it flushes them to the disk and lists them with their sizes in `checkpoint_manifest.json`
(`seal_checkpoint`). `trainer_state.json` comes last, and only then are older checkpoints deleted. A checkpoint is
complete if it has both, and each listed file with its size.

A folder without manifest comes from `transformers.Trainer` or an earlier version, or its deletion was cut off. It is
complete if it has `trainer_state.json` (which the Trainer, too, writes last), weights, and the states of optimizer and
scheduler, none of them cut off. What this cannot see is that a smaller part, such as a random state, is missing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import warnings
import zipfile
from pathlib import Path

from safetensors import SafetensorError, safe_open
from transformers.trainer import TRAINER_STATE_NAME, TRAINING_ARGS_NAME
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


def remove_checkpoint(folder: str | Path) -> None:
    """Deletes the folder, if there is one; cut off at any point, what is left is not complete."""
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
    sizes = {name: flushed_size(path) for name, path in files.items() if name not in unlisted}
    manifest = folder / MANIFEST_NAME
    manifest.write_text(json.dumps(sizes, indent=2) + "\n", encoding="utf-8")
    flushed_size(manifest)


def flushed_size(path: Path) -> int:
    """Size in bytes, after the file's content has reached the disk."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
        return os.fstat(file.fileno()).st_size


def find_damage(folder: str | Path) -> list[str]:
    """What a checkpoint lacks, a phrase for each missing or damaged file; empty if it is complete."""
    folder = Path(folder)
    if not folder.is_dir():
        return ["there is no such folder"]
    by_manifest = (folder / MANIFEST_NAME).is_file()
    return [
        *(compare_to_manifest(folder) if by_manifest else check_parts(folder)),
        *check_file(folder / TRAINER_STATE_NAME),
    ]


def is_complete(folder: str | Path) -> bool:
    """Whether a training can go on from this checkpoint."""
    return not find_damage(folder)


def compare_to_manifest(folder: Path) -> list[str]:
    """Listed files that are missing or have another size."""
    if damage := check_file(folder / MANIFEST_NAME):
        return damage
    for name, size in json.loads((folder / MANIFEST_NAME).read_text(encoding="utf-8")).items():
        path = folder / name
        if not path.is_file():
            damage.append(f"{name} is missing")
        elif path.stat().st_size != size:
            damage.append(f"{name} has {path.stat().st_size} bytes instead of {size}")
    return damage


def check_parts(folder: Path) -> list[str]:
    """Parts of PARTS that have no file, and files of parts that are cut off."""
    damage = []
    for part, patterns in PARTS.items():
        files = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
        if not files:
            damage.append(f"no {part}")
        for path in files:
            damage += check_file(path) or check_shards(path)
    return damage


def check_shards(index: Path) -> list[str]:
    """Files of weights that an index names and that are missing."""
    if not index.name.endswith(".index.json"):
        return []
    names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    return [f"{name} is missing" for name in sorted(names) if not (index.parent / name).is_file()]


def check_file(path: Path) -> list[str]:
    """A phrase if the file is missing or, as far as its format tells, cut off."""
    if not path.exists():
        return [f"{path.name} is missing"]
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt"):  # compares the header with the file's size
                return []
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix in (".pt", ".bin") and not zipfile.is_zipfile(path):
            return [f"{path.name} is cut off"]
    except (SafetensorError, ValueError):
        return [f"{path.name} is cut off"]
    return []


def check_checkpoint(folder: str | Path) -> None:
    """Raises ValueError, naming every missing file, unless the checkpoint is complete."""
    damage = find_damage(folder)
    if damage:
        raise ValueError(
            f"{str(folder)!r} is no complete checkpoint: {', '.join(damage)}. Expected a folder `checkpoint-STEP` as "
            "the Trainer writes it (without save_only_model). "
            f"If its files were changed on purpose, delete its {MANIFEST_NAME}."
        )


def set_checkpoints_aside(output_dir: str | Path) -> None:
    """Moves all `checkpoint-STEP` into `SET_ASIDE`, in the place of those set aside before; warns if there are any.

    A training that starts anew would otherwise mix with an earlier one in its folder: the largest step counts as the
    newest, and the oldest are deleted first.
    """
    output_dir = Path(output_dir)
    folders = [f for f in output_dir.glob(f"{PREFIX_CHECKPOINT_DIR}-*") if CHECKPOINT_PATTERN.fullmatch(f.name)]
    if not folders:
        return
    aside = output_dir / SET_ASIDE
    if aside.exists():
        shutil.rmtree(aside)
    aside.mkdir()
    for folder in folders:
        folder.rename(aside / folder.name)
    warnings.warn(
        f"{output_dir} held {len(folders)} checkpoints of an earlier training, which are now in {aside}: this one "
        "starts anew. To go on from one of them, pass resume_from_checkpoint.",
        stacklevel=2,
    )


def newest_complete_checkpoint(output_dir: str | Path) -> str | None:
    """The complete folder `checkpoint-STEP` with the largest STEP, or None; warns of newer ones that it skips."""
    steps = {}
    for folder in Path(output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        match = CHECKPOINT_PATTERN.fullmatch(folder.name)
        if match and folder.is_dir():
            steps[int(match[1])] = folder
    for step in sorted(steps, reverse=True):
        damage = find_damage(steps[step])
        if not damage:
            return str(steps[step])
        warnings.warn(f"{steps[step]} is no complete checkpoint and is skipped: {', '.join(damage)}.", stacklevel=2)
    return None
