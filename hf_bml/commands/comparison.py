"""What several runs leave above their folders: `NAME.json` after every run, tables and a picture at the end."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..analysis.comparison import Row, comparison_notes, comparison_table, row_records, run_records, write_csv


def flat_result(result: Mapping[str, Any]) -> dict[str, Any]:
    """A run of a [`Row`](../analysis/comparison.py) from what `metrics.json` holds.

    Test metrics under their own names, `validation_<metric>`, `ratio_<modality>`, `seed`, `device`, `torch`, and the
    times: `train_seconds` (not of a run that went on from a checkpoint) is without `estimation_seconds`.
    """
    estimation = sum(facts.get("estimation_seconds", 0.0) for facts in result.get("modulations", {}).values())
    times = {} if result.get("resumed_from") else {"train_seconds": result["train_seconds"] - estimation}
    return {
        "seed": result["seed"],
        **result["test"],
        **{f"ratio_{modality}": value for modality, value in result["final_ratios"].items()},
        **{f"validation_{name}": value for name, value in result["validation"].items()},
        **times,
        "estimation_seconds": estimation,
        "device": result["environment"]["device"],
        "torch": result["environment"]["torch"],
    }


def write_results(rows: Sequence[Row], folder: Path, name: str) -> None:
    """`NAME.json`, the runs per row; called after every run, so that it holds what is finished, whatever happens."""
    results = {row.title: row.runs for row in rows if row.runs}
    (folder / f"{name}.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def write_comparison(
    rows: Sequence[Row], folder: Path, name: str, compare: str, control: str | None = None, title: str = ""
) -> str:
    """Writes `NAME.md`, `NAME.csv` (a line per row), `NAME_runs.csv` (a line per run) and `NAME.png`.

    Returns:
        the Markdown: the table and what a reader must know.
    """
    notes = comparison_notes(rows, compare, control)
    text = "\n\n".join([comparison_table(rows, compare, control), *notes]) + "\n"
    (folder / f"{name}.md").write_text(text, encoding="utf-8")
    write_csv(row_records(rows, compare, control), folder / f"{name}.csv")
    write_csv(run_records(rows), folder / f"{name}_runs.csv")
    draw_bars(rows, folder / f"{name}.png", title)
    return text


def draw_bars(rows: Sequence[Row], path: Path, title: str) -> None:
    """The picture, if matplotlib is installed."""
    try:
        from ..analysis.bars import plot_bars
    except ImportError:
        print(f"{path.name} is not drawn: matplotlib is missing. Install it with: pip install 'hf_bml[plots]'")
        return
    plot_bars(rows, path, title)
