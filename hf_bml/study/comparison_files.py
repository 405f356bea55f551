"""The tables, records and pictures of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..analysis.comparison_csv import row_records, run_records, write_csv
from ..analysis.comparison_notes import comparison_notes
from ..analysis.comparison_table import comparison_table
from ..analysis.pooled import pooled_table
from ..analysis.ranks import Ranks, rank_methods, ranks_text
from ..analysis.records import records_of, write_records
from ..analysis.robustness import shown_columns, with_common_dominant
from ..analysis.row import Row
from ..ground.disk import disk_errors_named
from .json_file import write_json


def write_results(rows: Sequence[Row], folder: Path, name: str) -> None:
    """`NAME.json`, the runs per row; called after every run, so that it always holds what is finished."""
    results = {row.title: row.runs for row in rows if row.runs}
    write_json(results, folder / f"{name}.json")


def write_runs(rows: Sequence[Row], folder: Path, name: str, records: Path | None = None) -> None:
    """`NAME.json`, and the JSON lines of rows that know their data set, in another place if need be."""
    write_results(rows, folder, name)
    if rows[0].dataset:
        with disk_errors_named(folder):
            write_records(records_of(rows), records or folder / f"{name}.jsonl")


def write_comparison(
    rows: Sequence[Row],
    folder: Path,
    name: str,
    compare: str,
    control: str | None = None,
    title: str = "",
    left_out: Sequence[str] = (),
    columns: Sequence[str] = (),
) -> str:
    """Writes `NAME.md`, `NAME.csv` (a line per row), `NAME_runs.csv` (a line per run) and the pictures: `NAME.png`, of
    several data sets one each, see `pictures`; where methods are ranked over at least three of them, `NAME_ranks.png`.

    Returns:
        the Markdown: the table and what a reader must know.
    """
    rows, robustness_notes = with_common_dominant(rows)
    columns = list(dict.fromkeys([*columns, *shown_columns(rows)]))
    notes = [*comparison_notes(rows, compare, control), *robustness_notes, *left_out]
    parts = [comparison_table(rows, compare, control, columns), *notes]
    if pooled := pooled_table(rows, [compare, *columns], control):
        parts.append(pooled)
    if ranks := rank_methods(rows, compare, control):
        parts.append(ranks_text(ranks, compare))
    text = "\n\n".join(parts) + "\n"
    with disk_errors_named(folder):
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
        write_csv(row_records(rows, compare, control), folder / f"{name}.csv")
        write_csv(run_records(rows), folder / f"{name}_runs.csv")
        draw_pictures(rows, ranks, folder, name, title)
    return text


def pictures(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each picture by the end of its name: `.png`, or of several data sets `_SET.png`, each with the rows
    of one, whose recipes are named where that set has several."""
    sets = list(dict.fromkeys(row.dataset for row in rows))
    if len(sets) == 1:
        return {".png": list(rows)}
    found = {}
    for name in sets:
        own = [row for row in rows if row.dataset == name]
        has_several = len({row.source for row in own}) > 1
        ending = f"_{name.replace(':', '.')}.png"
        found[ending] = [replace(row, recipe=row.source if has_several else "") for row in own]
    return found


def draw_pictures(rows: Sequence[Row], ranks: Ranks | None, folder: Path, name: str, title: str) -> None:
    """The pictures, if matplotlib is installed."""
    try:
        from ..figures.critical_difference import plot_critical_difference
        from ..figures.dots import plot_accuracies
    except ImportError:
        print(f"{name}.png is not drawn: matplotlib is missing. Install it with: pip install 'hf_bml[plots]'")
        return
    shown = pictures(rows)
    for ending, own in shown.items():
        if not plot_accuracies(own, folder / f"{name}{ending}", title if len(shown) == 1 else own[0].dataset):
            print(f"{name}{ending} is not drawn: no run has an accuracy.")
    if ranks is not None:
        plot_critical_difference(ranks, folder / f"{name}_ranks.png", title)
