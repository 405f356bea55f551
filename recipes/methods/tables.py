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
from hf_bml.analysis.row import Row

FOLDER = Path(__file__).parent
ROBUSTNESS = FOLDER.parent / "robustness"
shared = SimpleNamespace(**runpy.run_path(str(ROBUSTNESS / "tables.py")))
RECIPE = "concat"
RANKED = {"clean": "robust/clean", "one missing": "robust/missing_average", "worst": "robust/worst"}
Sets = Mapping[str, Sequence[Row]]


def name_of(row: Row) -> str | None:
    """A method on the set's recipe by itself, plain training with another head by the head; None of other rows."""
    if row.source == RECIPE:
        return row.label.removeprefix(f"{RECIPE}: ")
    return f"fusion: {row.source}" if row.source in ("cosine", "shared") else None


def rows_of_set(name: str) -> tuple[list[Row], list[str]]:
    """The rows of `RECIPE` and of other heads, plain training first, and notes on what the columns are."""
    rows, notes = shared.rows_of_set(ROBUSTNESS / f"{name}.jsonl", FOLDER / f"{name}.jsonl")
    named = [replace(row, label=label, source=RECIPE) for row in rows if (label := name_of(row)) is not None]
    return named, [note.replace(f"{RECIPE}: ", "") for note in notes]


def all_sets() -> dict[str, tuple[list[Row], list[str]]]:
    """Those that have records here."""
    return {path.stem: rows_of_set(path.stem) for path in sorted(FOLDER.glob("*.jsonl"))}


def ranks_of(sets: Sets) -> dict[str, Ranks]:
    """By column, over the sets that are pooled; empty for fewer than two."""
    rows = [row for own in pooled_sets(sets).values() for row in own]
    found = {title: rank_methods(rows, metric) for title, metric in RANKED.items()} if rows else {}
    return {title: ranks for title, ranks in found.items() if ranks is not None}


def pooled_sets(sets: Sets) -> Sets:
    """Without those that are built to show an effect."""
    return {name: rows for name, rows in sets.items() if name not in shared.NOT_POOLED}


def all_tables() -> str:
    """Ranks and pooled differences, then a chapter per set."""
    found = all_sets()
    sets = {name: rows for name, (rows, _) in found.items()}
    pooled = pooled_sets(sets)
    chapters = []
    if len(pooled) > 1:
        chapters.append(f"## Pooled: {', '.join(pooled)}\n\n{shared.pooled_differences(pooled)}")
    for title, ranks in ranks_of(sets).items():
        picture = "![Mean ranks and critical difference](ranks.png)\n\n" if title == "one missing" else ""
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
