"""What of a training's options may be shown: nothing that only reports, no token, no path of the machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

HIDDEN_PATH = "PATH"  # stands in a card for a path of the machine that trained
WITHOUT_EFFECT = (  # on what is computed: where a run reports to and what it resumes from
    *("output_dir", "resume_from_checkpoint", "disable_tqdm", "log_level", "log_level_replica", "log_on_each_node"),
    *("report_to", "run_name", "project", "trackio_space_id", "trackio_bucket_id", "trackio_static_space_id"),
    *("push_to_hub", "hub_token", "hub_private_repo", "hub_model_id", "hub_strategy", "hub_always_push"),
    *("hub_revision", "push_code", "save_total_limit"),
)


def without_paths(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options that say how a model was trained: none that only reports, no token, and no path of this machine."""
    return {name: hide_paths(value) for name, value in options.items() if name not in WITHOUT_EFFECT}


def hide_paths(value: Any) -> Any:
    """The value with HIDDEN_PATH for every path outside the working folder.

    Example:
        >>> hide_paths({"data_dir": "/home/me/clips", "path": "user/clips", "sizes": [8, 8]})
        {'data_dir': 'PATH', 'path': 'user/clips', 'sizes': [8, 8]}
    """
    if isinstance(value, Mapping):
        return {key: hide_paths(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [hide_paths(item) for item in value]
    if isinstance(value, str):
        is_outside = PurePosixPath(value).is_absolute() or PureWindowsPath(value).is_absolute()
        return HIDDEN_PATH if is_outside or value.startswith(("~", "../", "file:", "local-dir:")) else value
    return value


def public_path(folder: str | Path) -> str:
    """The folder as it may be shown: as it was given, but of one outside the working folder its name only."""
    shown = Path(folder).as_posix()
    return Path(folder).resolve().name if hide_paths(shown) == HIDDEN_PATH else shown
