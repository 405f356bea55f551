"""Annotation files as their authors distribute them: separated values without a header, or JSON; also gzipped."""

from __future__ import annotations

import csv
import gzip
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..ground.suggestion import did_you_mean

logger = logging.getLogger(__name__)


def find_annotation(folder: Path, names: Sequence[str], source: str) -> Path:
    """The first of several file names, or of these with `.gz`, that is in a folder.

    Raises:
        FileNotFoundError: none is there; `source` says where they come from.
    """
    for name in names:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    raise FileNotFoundError(f"Expected {' or '.join(names)} in '{folder}', found neither. Get it from {source}.")


def read_text(path: Path) -> str:
    """Text of a UTF-8 file, without byte order mark, unzipped.

    Raises:
        ValueError: not UTF-8, or not gzipped as its name says.
    """
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError) as error:
        raise ValueError(f"Expected UTF-8 text in '{path}', found: {error}. Download the file again.") from error


def read_rows(path: Path, fields: Sequence[str], delimiter: str = ",", quoted: bool = True) -> dict[int, list[str]]:
    """Rows of a file of separated values, by line number; blank lines are skipped.

    Args:
        path: the file.
        fields: what each row holds; shown in errors.
        delimiter: between two fields.
        quoted: a field in double quotes may contain the delimiter.

    Raises:
        ValueError: a row has another number of fields, or the quotes do not match; file and line are named.
    """
    quoting = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    lines = [line.strip() for line in read_text(path).split("\n")]
    reader = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True)
    rows = {}
    try:
        for row in reader:
            values = [value.strip() for value in row]
            if any(values):
                rows[reader.line_num] = values
            if any(values) and (len(values) != len(fields) or not all(values)):
                raise ValueError(
                    f"Expected {delimiter.join(fields)} in file '{path}', line {reader.line_num}, found "
                    f"{delimiter.join(row)!r}. Correct the line; a field that contains {delimiter!r} needs quotes."
                )
    except csv.Error as error:
        raise ValueError(f"Expected matching quotes in file '{path}', line {reader.line_num}: {error}.") from error
    return rows


def read_json(path: Path, kind: type) -> Any:
    """Content of a JSON file.

    Raises:
        ValueError: not JSON, or of another type than `kind` (`dict` or `list`); file and line are named.
    """
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"Expected JSON in file '{path}', line {error.lineno}: {error}. Download it again."
        ) from error
    if not isinstance(content, kind):
        raise ValueError(f"Expected a {kind.__name__} in file '{path}', found a {type(content).__name__}.")
    return content


def class_index(label: str, classes: Mapping[str, int], path: Path, place: object) -> int:
    """Index of a class.

    Raises:
        ValueError: no such class; file and place (line, entry) are named.
    """
    if label not in classes:
        raise ValueError(
            f"Expected one of {len(classes)} classes in file '{path}', {place}, found {label!r}."
            f"{did_you_mean(label, classes)} Correct the label."
        )
    return classes[label]


def check_counts(found: Mapping[str, int], released: Mapping[str, int], name: str, path: Path) -> None:
    """Warns when an annotation file does not have as many entries as the release: it is a subset, or another file."""
    other = {part: number for part, number in released.items() if found.get(part, 0) != number}
    if other:
        logger.warning(
            "%s: '%s' has the entries %s, the release %s: this is another version or a subset.",
            name,
            path,
            {part: found.get(part, 0) for part in other},
            other,
        )
