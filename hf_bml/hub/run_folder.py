"""A run's folder on the Hub: its card, and all that is pushed with it."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from huggingface_hub import CommitInfo
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..ground.disk import disk_errors_named
from .card import CARD_NAME, write_card
from .card_metadata import CardOptions
from .facts import facts_of_run
from .hidden_paths import public_path
from .push import make_repository, push
from .remote_code import CODE_FOLDER
from .staging import stage


def write_run_card(
    run_dir: str | Path, folder: str | Path, repo_id: str | None, name: str | None = None, license: str | None = None
) -> Path:
    """Writes the card of a run, and its picture, into a folder.

    Args:
        run_dir: of the run or one of its checkpoints.
        folder: is made if needed.
        repo_id: where the quick start loads the model from; default `run_dir`.
        name: of the model; default that of `repo_id`, or the folder's.
        license: of the weights.

    Returns:
        the path of the card.

    Raises:
        FileNotFoundError: `run_dir` holds no model.
    """
    name = name or (repo_id.split("/")[-1] if repo_id else None)
    code = any((Path(place) / CODE_FOLDER).is_dir() for place in (run_dir, folder))
    options = CardOptions(source=repo_id or public_path(run_dir), license=license, code=code)
    return write_card(facts_of_run(run_dir, name), folder, options, figures_from=run_dir)


def push_run(
    run_dir: str | Path,
    repo_id: str,
    token: str | None = None,
    private: bool | None = None,
    revision: str | None = None,
    checkpoints: bool = False,
    with_code: bool = True,
    card: str | Path | None = None,
    name: str | None = None,
    license: str | None = None,
    message: str = "Upload model",
) -> CommitInfo:
    """Pushes a run's folder, or a checkpoint's, in one commit.

    Args:
        run_dir: as `hf-bml train` wrote it.
        repo_id, token, private, revision, message: see [`push`](push.py).
        checkpoints: also push all `checkpoint-STEP` of the folder, with what a training needs to resume.
        with_code: also push the code of model, processor and pipeline, see `save_code`; of models of hf_bml only.
        card: a Markdown file in place of the rendered card.
        name, license: for the card.

    Raises:
        FileNotFoundError: not the folder of a model, or no such card.
        PushError: the push failed.
    """
    run_dir = Path(run_dir)
    if not (run_dir / "config.json").is_file():
        raise FileNotFoundError(f"{run_dir} holds no config.json; expected a folder that hf-bml train wrote.")
    if card is not None and not Path(card).is_file():
        raise FileNotFoundError(f"--card {card} does not exist; expected a Markdown file.")
    place = run_dir if os.access(run_dir, os.W_OK) else tempfile.gettempdir()  # hard links need one disk
    with disk_errors_named(place), tempfile.TemporaryDirectory(prefix=".push-", dir=place) as staged:
        folders = sorted(run_dir.glob(f"{PREFIX_CHECKPOINT_DIR}-*")) if checkpoints else []
        stage(run_dir, staged, [(folder, folder.name) for folder in folders], with_code)
        repo_id = make_repository(repo_id, token, private, revision)
        (Path(staged) / CARD_NAME).unlink(missing_ok=True)  # else the run's own would be written through the link
        if card is None:
            write_run_card(run_dir, staged, repo_id, name, license)
        else:
            shutil.copyfile(card, Path(staged) / CARD_NAME)
        return push(staged, repo_id, message, token, private, revision)
