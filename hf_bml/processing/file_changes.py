"""Whether the files that a column points to are still those that it was processed from."""

import hashlib
import os
import stat
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset


def file_states(split: Dataset, columns: list[str]) -> str:
    """Digest of the size and the time of modification of every local file in some columns; "" where there is none.

    Values are paths, or `{"bytes", "path"}` without bytes, or lists of these, or folders by name. A missing file
    counts as such, as do the files in a folder. No content is read: 200,000 files take about 2 s.
    """
    digest, states = hashlib.sha256(), {}
    for column in columns:
        for path in _column_paths(split, column):
            if path not in states:
                states[path] = _state(path)
            digest.update(states[path])
    return digest.hexdigest() if states else ""


def _column_paths(split: Dataset, column: str) -> Iterator[str]:
    """Local paths, in the order of the rows; embedded media are not copied."""
    values = split.data.column(column)
    if not any(map(_may_hold_paths, values.chunks)):
        return
    if split._indices is not None:
        values = values.take(split._indices.column(0))
    for chunk in values.chunks:
        for path in _paths(chunk):
            if path and "://" not in path:
                yield path


def _is_media(kind: pa.DataType) -> bool:
    return pa.types.is_struct(kind) and {"bytes", "path"} <= {field.name for field in kind}


def _may_hold_paths(array: pa.Array) -> bool:
    if _is_media(array.type):
        return pc.struct_field(array, "bytes").null_count > array.null_count
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        return _may_hold_paths(array.flatten())
    if pa.types.is_struct(array.type):
        return any(map(_may_hold_paths, array.flatten()))
    return pa.types.is_string(array.type) or pa.types.is_large_string(array.type)


def _paths(array: pa.Array) -> Iterator[str | None]:
    if _is_media(array.type):
        embedded = pc.is_valid(pc.struct_field(array, "bytes"))
        yield from pc.struct_field(array, "path").filter(pc.invert(embedded)).to_pylist()
    elif pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        yield from _paths(array.flatten())
    elif pa.types.is_struct(array.type):
        for field in array.flatten():
            yield from _paths(field)
    elif pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        yield from array.to_pylist()


def _state(path: str) -> bytes:
    try:
        found = os.stat(path)
        inside = sorted(os.scandir(path), key=lambda entry: entry.name) if stat.S_ISDIR(found.st_mode) else []
        states = [(entry.name, entry.stat().st_size, entry.stat().st_mtime_ns) for entry in inside]
    except (OSError, ValueError):  # ValueError: no path can have this text
        return b"missing;"
    return repr((found.st_size, found.st_mtime_ns, states)).encode() + b";"
