"""Pushing a laid out folder (see `staging`) in one commit, and what to say when that fails."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, HfApi
from huggingface_hub.errors import HfHubHTTPError

ADVICE = {
    401: "log in with `hf auth login`, or set HF_TOKEN to a token with write permission",
    403: "the token must have the right to write there; is the name of the repository your own?",
    404: "check the name of the repository and the revision",
}


class PushError(RuntimeError):
    """A push that failed, in one line; the folder is as it was."""


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
