"""Where a data file lies: an explicit folder, the environment variable `HF_BML_DATA`, or `../shared/data`."""

from __future__ import annotations

import os
from pathlib import Path

DATA_VARIABLE = "HF_BML_DATA"
SHARED_DATA = Path("..", "shared", "data")
REPOSITORY_ROOT = Path(__file__).resolve().parents[2]


def data_folders(data_dir: str | os.PathLike | None = None) -> list[Path]:
    """Folders that are searched, in order.

    Args:
        data_dir: the only folder to search. `None` reads the environment variable `HF_BML_DATA`; if that is unset or
            empty, `../shared/data` seen from the repository and from the current directory are searched.

    Returns:
        at least one absolute folder, which need not exist.
    """
    chosen = data_dir if data_dir is not None else os.environ.get(DATA_VARIABLE)
    if chosen:
        return [Path(chosen).expanduser().resolve()]
    return list(dict.fromkeys((root / SHARED_DATA).resolve() for root in (REPOSITORY_ROOT, Path.cwd())))


def find_data_file(relative_path: str, data_dir: str | os.PathLike | None = None) -> Path:
    """Absolute path of a data file.

    Args:
        relative_path: path below the data folder, e.g. "mosi/mosi.parquet".
        data_dir: see `data_folders`.

    Returns:
        the first match.

    Raises:
        FileNotFoundError: no searched folder holds the file.
    """
    folders = data_folders(data_dir)
    for folder in folders:
        if (folder / relative_path).is_file():
            return folder / relative_path
    searched = ", ".join(map(str, folders))
    raise FileNotFoundError(
        f"Expected the data file '{relative_path}', found none in: {searched}. Pass data_dir=<folder that holds "
        f"{relative_path}> or set the environment variable {DATA_VARIABLE} to that folder."
    )


def find_data_folder(name: str, data_dir: str | os.PathLike | None = None) -> Path:
    """Folder of one data set's release.

    Args:
        name: folder below the data folder, e.g. "cremad".
        data_dir: the release's own folder; `None` looks for `name` in `data_folders()`.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    folders = [Path(data_dir).expanduser().resolve()] if data_dir else [folder / name for folder in data_folders()]
    for folder in folders:
        if folder.is_dir():
            return folder
    searched = ", ".join(map(str, folders))
    raise FileNotFoundError(
        f"Expected the folder of '{name}', found none of: {searched}. Pass data_dir=<folder of the release> or set "
        f"the environment variable {DATA_VARIABLE} to the folder that holds '{name}'."
    )
