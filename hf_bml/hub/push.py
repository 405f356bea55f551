"""What of a folder goes to the Hub, and how: the model, its processor, its card and pictures, in one commit.

What is to be pushed is first laid out in a folder of its own (`stage`, by hard links), so that a push in the
background is not disturbed by what the training writes and deletes in the meantime. Nothing else is pushed: no
optimizer state unless checkpoints are asked for, no `training_args.bin` (a pickle that can hold a token), no paths of
this machine.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import warnings
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, HfApi
from huggingface_hub.errors import HfHubHTTPError
from transformers.trainer import TRAINER_STATE_NAME, TRAINING_ARGS_NAME

from .facts import hide_paths, read_json
from .remote_code import CODE_FOLDER, own_config_class, save_code

MODEL_FILES = (
    *("config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json", "*.py"),
    *("processor_config.json", "preprocessor_config.json", "*tokenizer*", "special_tokens_map.json", "vocab.*"),
    *("merges.txt", "added_tokens.json", "chat_template*", "README.md", "*.png", "adapter_config.json"),
)
MODEL_FOLDERS = ("tokenizer_*", CODE_FOLDER)
CONFIGS = ("config.json", "adapter_config.json", "processor_config.json")
ADVICE = {
    401: "log in with `hf auth login`, or set HF_TOKEN to a token with write permission",
    403: "the token must have the right to write there; is the name of the repository your own?",
    404: "check the name of the repository and the revision",
}


class PushError(RuntimeError):
    """A push that failed, in one line; the folder is as it was."""


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
            state = json.loads(path.read_text(encoding="utf-8"))
            state["best_model_checkpoint"] = None  # the Trainer finds it again by `best_global_step`
            target.write_text(json.dumps(state, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        elif path.name == "checkpoint_manifest.json":  # the hash of the state is of the one that was written
            entries = json.loads(path.read_text(encoding="utf-8"))
            entries.pop(TRAINER_STATE_NAME, None)
            target.write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
        else:
            link(path, target)


def link(path: Path, target: Path) -> None:
    """Hard-links a file, or copies it where the file system has no hard links."""
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)


def make_repository(
    repo_id: str, token: str | None = None, private: bool | None = None, revision: str | None = None
) -> str:
    """Creates repository and branch unless they exist; returns `owner/name`.

    Raises:
        PushError: anything went wrong.
    """
    api = HfApi(token=token, library_name="hf_bml")
    try:
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if revision not in (None, "main") and not revision.startswith("refs/"):
            api.create_branch(repo_id, branch=revision, exist_ok=True)
    except Exception as error:  # of huggingface_hub, httpx or the network
        raise PushError(describe_failure(error, repo_id)) from error
    return repo_id


def push(
    staged: str | Path,
    repo_id: str,
    message: str,
    token: str | None = None,
    private: bool | None = None,
    revision: str | None = None,
    delete: bool = False,
) -> CommitInfo:
    """Uploads a staged folder in one commit, or in parts if the Hub refuses so many files at once; repository and
    branch are created if needed.

    Args:
        staged: what `stage` has laid out.
        repo_id: `owner/name`, or `name` for the token's user.
        message: of the commit.
        token: default that of HF_TOKEN or `hf auth login`.
        private: only of a repository that is created here; default the account's setting.
        revision: branch, default main.
        delete: delete the staged folder afterwards in any case.

    Raises:
        PushError: anything went wrong.
    """
    try:
        repo_id = make_repository(repo_id, token, private, revision)
        return HfApi(token=token, library_name="hf_bml").upload_folder(
            repo_id=repo_id, folder_path=staged, revision=revision, commit_message=message
        )
    except PushError:
        raise
    except Exception as error:  # of huggingface_hub, httpx, hf_xet or the file system
        raise PushError(describe_failure(error, repo_id)) from error
    finally:
        if delete:
            shutil.rmtree(staged, ignore_errors=True)


def describe_failure(error: Exception, repo_id: str) -> str:
    """One line that says what failed and, where it is known, what helps."""
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        advice = f": {ADVICE[status]}" if status in ADVICE else ""
        return f"the Hub refuses to take {repo_id} (HTTP {status}){advice}."
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    if type(error).__module__.startswith("httpx"):  # httpx or httpx2, as the version of huggingface_hub has it
        return f"the connection to the Hub failed while {repo_id} was pushed ({type(error).__name__}: {reason})."
    return f"{repo_id} cannot be pushed: {reason.rstrip('.')}."


def with_command(failure: object, folder: str | Path, repo_id: str, **options: Any) -> str:
    """Why a push failed, in one line, and the command that pushes the run's folder later.

    Args:
        failure: an error, or its text.
        folder, repo_id, options: see `push_command`.

    Example:
        >>> with_command("disk full", "runs/opm", "me/opm")
        'disk full. The run is kept; push it later with: hf-bml push runs/opm --repo-id me/opm'
    """
    reason = " ".join(str(failure).split()) or type(failure).__name__
    return f"{reason.rstrip('.')}. The run is kept; push it later with: {push_command(folder, repo_id, **options)}"


def push_command(
    folder: str | Path,
    repo_id: str,
    private: bool | None = None,
    revision: str | None = None,
    code: bool = True,
) -> str:
    """The command that pushes a run's folder later.

    Example:
        >>> push_command("runs/digits/opm", "me/digits-opm", private=True)
        'hf-bml push runs/digits/opm --repo-id me/digits-opm --private'
    """
    words = ["hf-bml", "push", str(folder), "--repo-id", repo_id]
    words += ["--private"] if private else []
    words += ["--revision", revision] if revision else []
    words += [] if code else ["--without-code"]
    return shlex.join(words)
