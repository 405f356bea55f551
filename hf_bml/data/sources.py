"""What `datasets` reads, by the name of a file, a format, a folder or a Hub id."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from datasets import DatasetDict, IterableDatasetDict, load_dataset, load_dataset_builder
from datasets.exceptions import DatasetGenerationError

from ..ground.hub_failure import not_loaded

FORMATS = {".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".json": "json", ".jsonl": "json"}
DataFiles = str | os.PathLike | list[str] | dict[str, Any] | None


def read_source(
    path: str | os.PathLike, data_files: DataFiles = None, streaming: bool = False, **options: Any
) -> DatasetDict | IterableDatasetDict:
    """The splits of a source.

    Args:
        path, data_files, options: see `source_options`.
        streaming: whether they are read while they are used.

    Raises:
        ConnectionError: the Hub cannot be reached.
        FileNotFoundError: no such file, folder or Hub id.
        ValueError: see `source_options`; or the source cannot be read.
    """
    found = source_options(path, data_files, **options)
    try:
        return load_dataset(**found, streaming=streaming)
    except ConnectionError as error:
        raise ConnectionError(not_loaded("the data set", os.fspath(path), error)) from error
    except DatasetGenerationError as error:  # says nothing itself
        reason = f"{type(error.__cause__).__name__}: {str(error.__cause__).partition(chr(10))[0]}"
        raise ValueError(
            f"Expected data that `datasets` can read in '{path}', found: {reason}. Repair what it names."
        ) from error


def source_options(path: str | os.PathLike, data_files: DataFiles = None, **options: Any) -> dict[str, Any]:
    """What `datasets.load_dataset` takes for a source.

    Args:
        path: a file (.csv, .tsv, .parquet, .json, .jsonl), a folder, a Hub id, or a format of `datasets`.
        data_files: of a folder, Hub id or format; patterns, one for all or one per split. If the format is one of
            tables, the files' suffix wins: `path="csv"` reads a parquet file.
        options: of `load_dataset`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: both a file and `data_files` are given.

    Example:
        >>> source_options("csv", "clips.parquet")
        {'path': 'parquet', 'data_files': 'clips.parquet'}
    """
    path = os.fspath(path)
    is_file = Path(path).suffix in FORMATS and not Path(path).is_dir()
    if is_file and data_files is not None:
        raise ValueError(
            f"Expected a file or data_files, found path={path!r} and data_files={data_files!r}. Drop one."
        )
    if is_file and "://" not in path and not Path(path).is_file():
        raise FileNotFoundError(
            f"Expected the file {path!r}, found none in {Path(path).parent.absolute()}. Correct the path, or give the "
            "id of a data set on the Hub."
        )
    data_files = path if is_file else os.fspath(data_files) if isinstance(data_files, os.PathLike) else data_files
    found = {"path": path, **options} if data_files is None else {"path": path, "data_files": data_files, **options}
    suffixes = {Path(file).suffix for file in _flat(data_files)}
    formats = {FORMATS.get(suffix) for suffix in suffixes}
    if (is_file or path in FORMATS.values()) and len(formats) == 1 and None not in formats:
        found |= {"path": formats.pop()} | ({"sep": "\t"} if suffixes == {".tsv"} else {})
    return found


def table_folders(path: str | os.PathLike, data_files: DataFiles = None, **options: Any) -> dict[str, Path]:
    """The local folder that the files of each split lie in; without splits whose files lie elsewhere or in several.

    Args:
        path, data_files, options: see `source_options`.
    """
    files = load_dataset_builder(**source_options(path, data_files, **options)).config.data_files or {}
    folders = {split: {os.path.dirname(file) for file in own} for split, own in files.items()}
    return {str(split): Path(*own) for split, own in folders.items() if len(own) == 1 and "://" not in "".join(own)}


def _flat(data_files: Any) -> Iterable[str]:
    if isinstance(data_files, str | os.PathLike):
        return [os.fspath(data_files)]  # one of a list may be a Path
    parts = data_files.values() if isinstance(data_files, Mapping) else data_files or ()
    return [file for part in parts for file in _flat(part)]
