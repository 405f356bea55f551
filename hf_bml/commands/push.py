"""`hf-bml push RUN_DIR --repo-id OWNER/NAME`: a finished run to the Hub, with its card."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import CommitInfo
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..ground.disk import disk_errors_named
from ..hub.card import CARD_NAME
from ..hub.push import PushError, make_repository, push, stage
from ..study.errors import BAD_INPUT, print_error
from .card import card_parser, write_run_card


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0, or 2 with one line on stderr for bad input and for a push that failed."""
    parser = card_parser(
        prog="hf-bml push",
        description="Pushes a run's model, processor, card and curves. The token is that of HF_TOKEN or `hf auth "
        "login`. The repository is made if needed. The run's folder stays as it is.",
    )
    parser.add_argument("--repo-id", required=True, help="OWNER/NAME, or NAME for your own")
    parser.add_argument("--private", action="store_true", default=None, help="if the repository is made here")
    parser.add_argument("--revision", help="branch, which is made if needed (default: main)")
    parser.add_argument("--checkpoints", action="store_true", help="with all checkpoints and their optimizer states")
    parser.add_argument(
        "--with-code",
        action="store_true",
        default=True,
        help="which is the default: trust_remote_code loads the model where hf_bml is not installed",
    )
    parser.add_argument("--without-code", dest="with_code", action="store_false", help="leave the code out")
    parser.add_argument("--card", type=Path, help="a card of your own instead of the run's")
    parser.add_argument("--message", default="Upload model", help="of the commit (default: %(default)s)")
    try:
        chosen = vars(parser.parse_args(arguments))
        commit = push_run(**chosen)
        print(f"pushed to {commit.repo_url}, commit {commit.oid}")
    except (ValueError, OSError, PushError) as error:
        print_error("hf-bml push", error)
        return BAD_INPUT
    return 0


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
        repo_id, token, private, revision, message: see [`push`](../hub/push.py).
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


if __name__ == "__main__":
    sys.exit(main())
