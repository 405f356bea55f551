"""The tables of recipes/robustness/README.md are those of its records."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "recipes" / "robustness"
RECORDS = sorted(FOLDER.glob("*.jsonl"))


@pytest.fixture(scope="module")
def tables():
    spec = importlib.util.spec_from_file_location("robustness_tables", FOLDER / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_the_readme_shows_what_the_records_say(tables, path):
    rows, notes = tables.rows_of_set(path)
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert tables.set_table(rows) in text
    assert " ".join(notes) in text
    assert (FOLDER / f"{path.stem}.png").is_file()
    assert rows[0].label == tables.REFERENCE and {len(row.runs) for row in rows} == {5}


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_rows_had_the_same_budget(tables, path):
    rows, _ = tables.rows_of_set(path)
    for row in rows:
        settings = 4 * (1 if row.methods != "unimodal" else len({run["setting"].split(",")[0] for run in row.search}))
        assert len(row.search) <= settings
        assert all(run["chosen_by"] == "validation_accuracy" for run in row.search)


def test_pooled_differences(tables):
    sets = {path.stem: tables.rows_of_set(path)[0] for path in RECORDS if path.stem not in tables.BUILT_TO_SHOW}
    assert tables.pooled_differences(sets) in (FOLDER / "README.md").read_text(encoding="utf-8")
