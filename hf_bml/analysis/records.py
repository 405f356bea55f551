"""Runs of a comparison as JSON lines, from which every table can be made again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .row import Row

SAID_ONCE = ("label", "source", "methods", "model", "plain", "dataset", "setting")  # of a row


def records_of(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """One mapping per run: what its row is, whether the run is one of a search, and `run`, what is known of it."""
    records = []
    for row in rows:
        described = {name: vars(row)[name] for name in SAID_ONCE}
        records += [{**described, "search": True, "run": run} for run in row.search]
        records += [{**described, "search": False, "run": run} for run in row.runs]
    return records


def rows_of(records: Iterable[dict[str, Any]]) -> list[Row]:
    """The rows of records, each in the place of its first one; runs of a row whose search alone is done are none.

    Recipes are named if there are several: as they are, of equal names by their data sets, or else by both.
    """
    rows: dict[tuple[str, ...], Row] = {}
    for record in records:
        key = tuple(record[name] for name in ("dataset", "source", "label"))
        row = rows.setdefault(key, Row(**{name: record[name] for name in SAID_ONCE}))
        known = row.search if record["search"] else row.runs
        known.append(record["run"])
    found = [row for row in rows.values() if row.runs]
    recipes = list(dict.fromkeys((row.dataset, row.source) for row in found))
    datasets, sources = ([recipe[place] for recipe in recipes] for place in (0, 1))
    for row in found if len(recipes) > 1 else ():
        both = row.dataset if datasets.count(row.dataset) == 1 else f"{row.dataset} {row.source}"
        row.recipe = row.source if sources.count(row.source) == 1 else both
    return found


def run_of_record(record: Mapping[str, Any]) -> str:
    """What tells a record's run from all others, as JSON."""
    place = {name: record[name] for name in ("dataset", "source", "label", "search")}
    return json.dumps(place | {name: record["run"].get(name) for name in ("setting", "fold", "seed")})


def write_records(records: Iterable[dict[str, Any]], path: Path) -> None:
    """Writes JSON lines beside the file and then moves them there."""
    unfinished = path.with_name(f"{path.name}.part")
    unfinished.write_text("".join(f"{json.dumps(record)}\n" for record in records), encoding="utf-8")
    unfinished.replace(path)


def read_records(paths: Sequence[str | Path]) -> list[dict[str, Any]]:
    """The records of several files, one after the other; a run that two of them hold counts once.

    Raises:
        ValueError: a line that is no such record, or a row with two different runs of a seed.
        OSError: a file cannot be read.
    """
    expected = {*SAID_ONCE, "search", "run"}
    found: dict[str, dict[str, Any]] = {}
    places: dict[str, str] = {}
    for path in map(Path, paths):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                record = json.loads(line)
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: expected JSON, found {line[:40]!r} ({error}).") from error
            if not isinstance(record, dict) or set(record) != expected or not isinstance(record["run"], dict):
                raise ValueError(
                    f"{path}, line {number}: expected a run with {sorted(expected)}, found {line[:60]!r}. Give files "
                    "NAME.jsonl that hf-bml compare wrote."
                )
            key, place = run_of_record(record), f"{path}, line {number}"
            if json.dumps(found.setdefault(key, record)) != json.dumps(record):  # NaN is not equal to itself
                raise ValueError(
                    f"{place}: expected one run of a row and seed, found another one than {places[key]}: {key}. Give "
                    "files of one recipe per data set, or compare a copy of the other recipe under another name."
                )
            places.setdefault(key, place)
    return list(found.values())
