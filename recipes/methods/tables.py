"""The tables and pictures of RESULTS.md, from the records here and in recipes/robustness.

    python recipes/methods/tables.py                  # the tables of every set, their pooled differences, and ranks
    python recipes/methods/tables.py --write          # puts them into RESULTS.md, and draws SET.png and ranks.png

The rows are the methods on a set's recipe, `fusion: NAME` plain training with another head. Those that
recipes/robustness has, trained with the same budget, seeds and columns, are not trained again.
"""

from __future__ import annotations

import argparse
import runpy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

from hf_bml.analysis.ranks import Ranks, rank_methods, ranks_text
from hf_bml.analysis.records import read_records, rows_of
from hf_bml.analysis.robustness import with_common_dominant
from hf_bml.analysis.row import PLAIN, Row

FOLDER = Path(__file__).parent
ROBUSTNESS = FOLDER.parent / "robustness"
shared = SimpleNamespace(**runpy.run_path(str(ROBUSTNESS / "tables.py")))
RECIPE = "concat"
HEADS = ("cosine", "shared")
IN_EPOCHS = ("data_remixing", "reconboost", "relearning", "sample_valuation")  # the page says their options
RANKED = {"clean": "robust/clean", "one missing": "robust/missing_average", "worst": "robust/worst"}
Sets = Mapping[str, Sequence[Row]]


def rows_of_set(name: str) -> tuple[list[Row], list[str]]:
    """The methods on the set's recipe and plain training with other heads, plain training first, and notes on what the
    columns are."""
    rows = rows_of(read_records([ROBUSTNESS / f"{name}.jsonl", FOLDER / name / f"{RECIPE}.jsonl"]))
    found = [replace(row, label=short(row.label), recipe="") for row in rows if row.source == RECIPE]
    found.sort(key=lambda row: row.label != PLAIN)  # the others are compared to the first row
    for head in HEADS:
        [plain] = rows_of(read_records([FOLDER / name / f"{head}.jsonl"]))
        found.append(replace(plain, label=f"fusion: {head}"))
    return with_common_dominant(found)


def short(label: str) -> str:
    """A row's label, without the options of a method that waits in epochs."""
    name = label.partition(":")[0]
    return name if name in IN_EPOCHS else label


def all_sets() -> dict[str, tuple[list[Row], list[str]]]:
    """Those that have records here."""
    return {path.parent.name: rows_of_set(path.parent.name) for path in sorted(FOLDER.glob(f"*/{RECIPE}.jsonl"))}


def ranks_of(sets: Sets) -> dict[str, Ranks]:
    """By column, over the sets that are pooled; empty for fewer than two."""
    rows = [row for own in shared.pooled_sets(sets).values() for row in own]
    found = {title: rank_methods(rows, metric) for title, metric in RANKED.items()}
    return {title: ranks for title, ranks in found.items() if ranks is not None}


def all_tables() -> str:
    """Ranks and pooled differences, then a chapter per set."""
    found = all_sets()
    sets = {name: rows for name, (rows, _) in found.items()}
    pooled = shared.pooled_sets(sets)
    chapters = []
    if len(pooled) > 1:
        chapters.append(f"## Pooled: {', '.join(pooled)}\n\n{shared.pooled_differences(pooled)}")
    for title, ranks in ranks_of(sets).items():
        is_drawn = title == "one missing" and ranks.critical_difference is not None
        picture = "![Mean ranks and critical difference](ranks.png)\n\n" if is_drawn else ""
        chapters.append(f"## Ranks: {title}\n\n{picture}{ranks_text(ranks, title)}")
    caption = "Accuracy on clean data, with one modality missing and with noise"
    for name, (rows, notes) in found.items():
        chapters.append(f"## {name}\n\n![{caption}]({name}.png)\n\n{shared.set_table(rows)}\n\n{' '.join(notes)}")
    return "\n\n".join(chapters)


def draw_all() -> None:
    """SET.png of every set, and ranks.png."""
    from hf_bml.figures.critical_difference import plot_critical_difference

    sets = {name: rows for name, (rows, _) in all_sets().items()}
    for name, rows in sets.items():
        shared.draw(name, rows, FOLDER)
    ranks = ranks_of(sets).get("one missing")
    if ranks is not None:
        plot_critical_difference(ranks, FOLDER / "ranks.png", "accuracy with one modality missing")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="into RESULTS.md, with the pictures beside it")
    if not parser.parse_args().write:
        print(all_tables())
        return
    page = FOLDER / "RESULTS.md"
    before, _ = page.read_text(encoding="utf-8").split(shared.MARK)
    page.write_text(f"{before}{shared.MARK}\n\n{all_tables()}\n", encoding="utf-8")
    draw_all()


if __name__ == "__main__":
    main()
