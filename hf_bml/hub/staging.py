"""What of a folder goes to the Hub: the model, its processor, its card and pictures.

It is laid out in a folder of its own by hard links, so that a push in the background is not disturbed by what the
training writes and deletes in the meantime. Nothing else is pushed: no optimizer state unless checkpoints are asked
for, no `training_args.bin` (a pickle that can hold a token), no paths of this machine.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path

from transformers.trainer import TRAINER_STATE_NAME, TRAINING_ARGS_NAME

from .facts import read_json
from .hidden_paths import hide_paths
from .push import PushError
from .remote_code import CODE_FOLDER, own_config_class, save_code

MODEL_FILES = (
    *("config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json", "*.py"),
    *("processor_config.json", "preprocessor_config.json", "*tokenizer*", "special_tokens_map.json", "vocab.*"),
    *("merges.txt", "added_tokens.json", "chat_template*", "README.md", "*.png", "adapter_config.json"),
)
MODEL_FOLDERS = ("tokenizer_*", "feature_extractor_*", CODE_FOLDER)
CONFIGS = ("config.json", "adapter_config.json", "processor_config.json")


def stage(
    folder: str | Path,
    destination: str | Path,
    checkpoints: Iterable[tuple[str | Path, str]] = (),
    code: bool = False,
) -> Path:
    """Lays out what is pushed, by hard links where the file system has them.

    Args:
        folder: of a model; its files that match MODEL_FILES are taken, and its folders that match MODEL_FOLDERS.
        destination: an empty or new folder.
        checkpoints: folders of checkpoints with the names that they get; they keep all that resuming needs.
        code: add that of model, processor and pipeline (see `save_code`), if it is a model of this package.

    Returns:
        the destination.

    Raises:
        PushError: the folder holds no weights.

    Warns:
        UserWarning: the model or its processor needs a place on this machine, which others do not have.
    """
    folder, destination = Path(folder), Path(destination)
    destination.mkdir(parents=True, exist_ok=True)
    files = [path for path in sorted(folder.iterdir()) if path.is_file()]
    files = [path for path in files if any(fnmatch(path.name, pattern) for pattern in MODEL_FILES)]
    if not any(path.suffix == ".safetensors" for path in files):
        raise PushError(f"{folder} holds no model.safetensors; expected the folder of a trained model.")
    folders = [path for pattern in MODEL_FOLDERS for path in folder.glob(pattern)]
    files += [file for path in folders for file in path.rglob("*") if file.is_file() and file.suffix != ".pyc"]
    for path in files:
        target = destination / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        is_config = path.parent == folder and path.name in CONFIGS
        (link_config if is_config else link)(path, target)
    for checkpoint, name in checkpoints:
        stage_checkpoint(Path(checkpoint), destination / name)
    config = destination / "config.json"  # an adapter has none: its base model brings the code
    if code and config.is_file() and own_config_class(read_json(config)) is not None:
        save_code(destination)
    return destination


def link_config(path: Path, target: Path) -> None:
    """As `link`, without the sources of the transformers encoders: the model holds all of them.

    Warns:
        UserWarning: the config names another place on this machine, which others do not have.
    """
    config, public = read_json(path), read_json(path)
    for name, options in (public.get("modalities") or {}).items():
        if options.get("type") == "transformers" and options.get("config"):
            public["modalities"][name] = hide_paths(options)
    if hide_paths(public) != public:
        warnings.warn(
            f"{path} names a place on this machine, where others will not find anything. Use a name on the Hub, and "
            "train again or edit the file.",
            stacklevel=3,
        )
    if public == config:
        link(path, target)
    else:
        target.write_text(json.dumps(public, indent=2) + "\n", encoding="utf-8")


def stage_checkpoint(folder: Path, destination: Path) -> None:
    """All of a checkpoint except the pickled arguments, with no path of this machine in its state."""
    for path in sorted(folder.rglob("*")):
        target = destination / path.relative_to(folder)
        if not path.is_file() or path.name == TRAINING_ARGS_NAME:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.name == TRAINER_STATE_NAME:
            state = {**read_json(path), "best_model_checkpoint": None}  # found again by `best_global_step`
            target.write_text(json.dumps(state, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        elif path.name == "checkpoint_manifest.json":  # the hash of the state is of the one that was written
            entries = {name: entry for name, entry in read_json(path).items() if name != TRAINER_STATE_NAME}
            target.write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
        else:
            link(path, target)


def link(path: Path, target: Path) -> None:
    """Hard-links a file, or copies it where the file system has no hard links."""
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)
