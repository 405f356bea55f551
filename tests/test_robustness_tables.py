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


def test_the_readme_shows_what_the_records_say(tables):
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert text.split(tables.MARK)[1].strip() == tables.all_tables()


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_every_set_has_its_picture_and_as_many_runs_in_all_rows(tables, path):
    rows, _ = tables.rows_of_set(path)
    assert (FOLDER / f"{path.stem}.png").is_file()
    assert rows[0].label == tables.REFERENCE and {len(row.runs) for row in rows} == {6 if rows[0].folds else 5}


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_rows_had_the_same_budget(tables, path):
    rows, _ = tables.rows_of_set(path)
    for row in rows:
        settings = 4 * (1 if row.methods != "unimodal" else len({run["setting"].split(",")[0] for run in row.search}))
        assert len(row.search) <= settings
        assert all(run["chosen_by"] == "validation_accuracy" for run in row.search)
