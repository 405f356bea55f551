"""The tables of recipes/methods/RESULTS.md are those of its records and of recipes/robustness."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from hf_bml.analysis.records import read_records, rows_of

FOLDER = Path(__file__).parent.parent / "recipes" / "methods"
SETS = sorted(path.parent.name for path in FOLDER.glob("*/concat.jsonl"))


@pytest.fixture(scope="module")
def tables():
    return SimpleNamespace(**runpy.run_path(str(FOLDER / "tables.py")))


def test_the_page_shows_what_the_records_say(tables):
    page = (FOLDER / "RESULTS.md").read_text(encoding="utf-8")
    assert page.split(tables.shared.MARK)[1].strip() == tables.all_tables(), "run recipes/methods/tables.py --write"
    pictures = re.findall(r"!\[[^]]*\]\(([^)]*)\)", page)
    assert len(pictures) == len(set(pictures)) >= len(SETS) and all((FOLDER / each).is_file() for each in pictures)


@pytest.mark.parametrize("name", SETS)
def test_every_set_has_its_picture_and_as_many_runs_in_all_rows(tables, name):
    rows, _ = tables.rows_of_set(name)
    assert (FOLDER / f"{name}.png").is_file()
    assert rows[0].label == "none" and {len(row.runs) for row in rows} == {6 if rows[0].folds else 5}


def test_all_sets_have_the_same_rows(tables):
    labels = {name: [row.label for row in tables.rows_of_set(name)[0]] for name in SETS}
    assert len(set(map(tuple, labels.values()))) == 1 and len(labels["wiki"]) == 35


@pytest.mark.parametrize("name", SETS)
def test_rows_had_the_same_budget(name):
    rows = rows_of(read_records([FOLDER / name / "concat.jsonl"]))
    rows += [row for head in ("cosine", "shared") for row in rows_of(read_records([FOLDER / name / f"{head}.jsonl"]))]
    assert len(rows) == 22
    for row in rows:
        assert len(row.search) == 4 and all(run["chosen_by"] == "validation_accuracy" for run in row.search)
