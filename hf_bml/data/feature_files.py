"""Files of precomputed features by split: pickles of numpy arrays (read without running code), npz, parquet."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow.parquet as pq

CORE = np._core if hasattr(np, "_core") else np.core  # of numpy 2 and 1
# What pickles of numpy arrays, lists, dicts and strings refer to, under the names of both.
ARRAY_GLOBALS = {
    ("numpy", "dtype"): np.dtype,
    ("numpy", "ndarray"): np.ndarray,
    **{
        (module, name): vars(CORE.multiarray)[name]
        for module in ("numpy.core.multiarray", "numpy._core.multiarray")
        for name in ("_reconstruct", "scalar")
    },
    **{(module, "_frombuffer"): CORE.numeric._frombuffer for module in ("numpy.core.numeric", "numpy._core.numeric")},
}


class ArrayUnpickler(pickle.Unpickler):
    """Unpickler that admits numpy arrays, plain containers, strings and numbers, and nothing that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        """Raises pickle.UnpicklingError for anything else."""
        if (module, name) == ("_codecs", "encode"):  # how protocol 2 writes bytes
            return _encode_latin1
        if (module, name) not in ARRAY_GLOBALS:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}")
        return ARRAY_GLOBALS[module, name]


def _encode_latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it holds bytes in the encoding {encoding!r}")
    return text.encode(encoding)


def read_arrays(file: BinaryIO) -> Any:
    """Content of a pickle of numpy arrays, dicts, lists, strings and numbers.

    Raises:
        pickle.UnpicklingError: it holds anything else, or is not a pickle.
    """
    try:
        return ArrayUnpickler(file, encoding="latin1").load()
    except pickle.UnpicklingError:
        raise
    except Exception as error:  # a damaged pickle raises nearly anything
        raise pickle.UnpicklingError(f"{type(error).__name__}: {error}") from error


def read_feature_file(path: Path, wanted: Collection[str] | None = None) -> dict[str, dict[str, Any]]:
    """Arrays of each split and field of a feature file.

    Args:
        path: `.pkl` or `.pickle`, `{split: {field: array}}`; `.npz` with arrays `<split>/<field>`; or `.parquet`, one
            row per sample, with the column `split`.
        wanted: fields that must be arrays; others are passed as they are. None: all.

    Returns:
        `{split: {field: array}}`, wanted arrays of equal length within a split.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another kind of file or content; split and field are named.
    """
    readers = {".pkl": _read_pickle, ".pickle": _read_pickle, ".npz": _read_npz, ".parquet": _read_parquet}
    if path.suffix not in readers:
        raise ValueError(f"Expected a file {', '.join(readers)}, found '{path}'. Convert it.")
    if not path.is_file():
        raise FileNotFoundError(f"Expected the feature file '{path}', found no such file.")
    content = readers[path.suffix](path)
    if not isinstance(content, Mapping) or not all(isinstance(fields, Mapping) for fields in content.values()):
        raise ValueError(f"Expected {{split: {{field: array}}}} in '{path}', found {type(content).__name__}.")
    arrays: dict[str, dict[str, Any]] = {split: dict(fields) for split, fields in content.items()}
    for split, fields in arrays.items():
        lengths = {}
        for field in [field for field in fields if wanted is None or field in wanted]:
            try:
                fields[field] = np.asarray(fields[field])
            except ValueError as error:
                raise ValueError(
                    f"Expected rows of one shape in '{path}', split '{split}', field '{field}', found: {error}. Pad "
                    "them at both ends with zeros."
                ) from error
            lengths[field] = len(fields[field]) if fields[field].ndim else 0
        if len(set(lengths.values())) > 1:
            raise ValueError(f"Expected fields of one length in '{path}', split '{split}', found {lengths}.")
    return arrays


def _read_pickle(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            return read_arrays(file)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"Expected a pickle of numpy arrays, dicts, lists and strings in '{path}', found that {error}. Nothing of "
            "it was run. If you trust the file, convert it to .npz with arrays '<split>/<field>'."
        ) from error


def _undamaged(load: Callable[[Path], Any], path: Path) -> Any:
    try:
        return load(path)
    except Exception as error:  # of zip, numpy and Arrow
        raise ValueError(
            f"Expected a readable feature file '{path}', found: {type(error).__name__}: {error}. Download it again."
        ) from error


def _load_npz(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def _read_npz(path: Path) -> dict[str, dict[str, np.ndarray]]:
    arrays: dict[str, dict[str, np.ndarray]] = {}
    for key, array in _undamaged(_load_npz, path).items():
        split, _, field = key.partition("/")
        arrays.setdefault(split, {})[field] = array
    return arrays


def _read_parquet(path: Path) -> dict[str, dict[str, list]]:
    table = _undamaged(pq.read_table, path)
    if "split" not in table.column_names:
        raise ValueError(f"Expected a column 'split' in '{path}', found {table.column_names}.")
    splits = np.asarray(table["split"].to_pylist())
    return {
        str(split): {
            name: table[name].take(np.flatnonzero(splits == split)).to_pylist()
            for name in table.column_names
            if name != "split"
        }
        for split in dict.fromkeys(splits)
    }
