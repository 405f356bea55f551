from __future__ import annotations

import pytest

from hf_bml.analysis.records import records_of, write_records
from hf_bml.analysis.row import Row
from hf_bml.cli import main
from hf_bml.study.comparison_files import pictures


@pytest.mark.parametrize("sets", [2, 3])
def test_collected_data_sets_are_ranked_and_tested_from_three_on(tmp_path, capsys, sets):
    files = [tmp_path / f"set{place}.jsonl" for place in range(sets)]
    for place, file in enumerate(files):
        rows = [
            Row(method, methods=method, dataset=f"my:set{place}", source="concat", runs=[run(value, place)])
            for method, value in {"none": 0.5, "opm": 0.6, "ogm": 0.7}.items()
        ]
        write_records(records_of(rows), file)
    command = ["compare", "--collect", *map(str, files), "--output_dir", str(tmp_path / "tables"), "--control", "opm"]
    assert main(command) == 0
    text = (tmp_path / "tables/comparison.md").read_text()
    assert text in capsys.readouterr().out
    [first] = [
        line for line in text.splitlines() if line.startswith("| ogm ") and "1.00" in line and "70.0" not in line
    ]
    cells = [cell.strip() for cell in first.strip("|").split("|")]
    assert cells == ["ogm", "1.00", "0.250", "0.500"][: 4 if sets == 3 else 2]
    assert ("Friedman's test: chi-squared 6.00" in text) == ("Wilcoxon's p against opm" in text) == (sets == 3)
    assert ("2 data sets are too few for a test" in text) == (sets == 2)
    drawn = {path.stem for path in (tmp_path / "tables").glob("*.png")}
    own = {f"comparison_my.set{place}" for place in range(sets)}  # one each, not one of all
    assert drawn == own | ({"comparison_ranks"} if sets == 3 else set())


def test_a_picture_shows_the_recipes_of_its_own_set():
    rows = [Row("none", recipe=f"{s} {r}", dataset=s, source=r) for s, r in (("a", "x"), ("a", "y"), ("b", "x"))]
    shown = pictures(rows)
    assert {ending: [row.title for row in own] for ending, own in shown.items()} == {
        "_a.png": ["x: none", "y: none"],
        "_b.png": ["none"],
    }
    assert list(pictures(rows[:2])) == [".png"]


def run(accuracy, place):
    """A run whose accuracy differs between sets, but not the order of the methods."""
    value = accuracy * (1 - 0.1 * place)
    return {"seed": 0, "accuracy": value, "validation_accuracy": value, "device": "CPU", "torch": "2"}
