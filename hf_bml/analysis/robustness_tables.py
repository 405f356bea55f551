"""What `robustness_<split>.json` holds as tables, of one run and of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .comparison_table import mean_cell
from .metric_names import MEASURED
from .robustness import Condition, change, conditions_of, noisy_by_type, shown_columns
from .row import Row
from .summary import markdown_table, percent


def robustness_text(found: Mapping[str, Any]) -> str:
    """The printed tables of one run: every condition, then the summary."""
    conditions = conditions_of(found)
    clean = conditions[0].accuracy
    trusted = conditions_of(found["trust"]) if "trust" in found else []
    lines = []
    for number, one in enumerate(conditions):
        names = ", ".join(one.modalities)
        what = {"clean": "clean", "missing": f"without {names}", "noisy": f"{names}: {one.label}"}[one.kind]
        seen = {"noisy": "yes" if one.seen else "no"}.get(one.kind, "")
        line = [what, percent(one.accuracy), change(one.accuracy, clean), percent(one.ece), seen]
        lines.append([*line, *(percent(other.accuracy) for other in trusted[number : number + 1])])
    with_trust = ["with trust, %"] if trusted else []
    header = ["condition", "accuracy, %", "change", "calibration error, %", "seen in training", *with_trust]
    summary, other = found["summary"], found["trust"]["summary"] if trusted else {}
    rows = [
        [name.replace("_", " "), percent(value), *([percent(other.get(name))] if trusted else [])]
        for name, value in summary.items()
        if "/" not in name
    ]
    notes = [dominance_text(found["dominant"], conditions), found["training_saw"], *found["left_out"]]
    return "\n\n".join(
        [
            f"{found['split']} split, {conditions[0].n} predictions, noise of seed {found['seed']}",
            markdown_table(header, lines),
            markdown_table(["summary", "%", *with_trust], rows),
            "\n".join(note for note in notes if note),
        ]
    )


def dominance_text(dominant: Mapping[str, Any], conditions: Sequence[Condition]) -> str:
    """Which modality is dominant, and what its noise was."""
    name = dominant["modality"]
    kinds = ", ".join(noisy_by_type(conditions).get(name, {}))
    text = f"Dominant: {name}"
    if "without" in dominant:
        cost = 100 * (dominant["clean"] - dominant["without"][name])
        text += f", whose absence costs most on validation ({cost:.1f} points)"
    return f"{text}; its noise: {kinds}." if kinds else f"{text}."


def rows_text(rows: Sequence[Row], notes: Sequence[str]) -> str:
    """The printed table of several runs, a row each, and the notes."""
    header, lines = rows_cells(rows)
    return "\n\n".join([markdown_table(header, lines), *notes])


def rows_cells(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Header and lines of that table: means ± standard deviations over seeds, times 100."""
    names = [f"{MEASURED}clean", *shown_columns(rows)]
    header = ["run", "seeds", *(name.removeprefix(MEASURED).replace("_", " ") for name in names)]
    return header, [[row.label, str(len(row.runs)), *(mean_cell(row, name) for name in names)] for row in rows]
