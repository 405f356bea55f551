"""The tables of this folder's README.md, from the records here and in recipes/robustness.

    python recipes/balanced/tables.py             # shows them
    python recipes/balanced/tables.py --write     # puts them into README.md
    python recipes/balanced/tables.py --chosen av_digits    # options that the search chose for `bounded: balanced`

Differences are of two rows of one set and one optimizer, over their common seeds. Pooled, each data set counts once,
with the mean of its recipes (av_digits with convolutions and with vision transformers are one data set).
"""

from __future__ import annotations

import argparse
import re
import runpy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

from hf_bml.analysis.comparison_table import difference_cell
from hf_bml.analysis.records import read_records, rows_of
from hf_bml.analysis.references import difference
from hf_bml.analysis.robustness import with_common_dominant
from hf_bml.analysis.row import Row
from hf_bml.analysis.summary import markdown_table
from hf_bml.study.recipe_yaml import read_recipe

FOLDER = Path(__file__).parent
ROBUSTNESS = FOLDER.parent / "robustness"
shared = SimpleNamespace(**runpy.run_path(str(ROBUSTNESS / "tables.py")))
OPTIMIZERS = {"SGD": ROBUSTNESS, "AdamW": FOLDER / "adamw"}  # where the records are
CANDIDATE = "bounded: balanced"
COMPARISONS = {  # what, and from which it is a difference
    CANDIDATE: ("concat: balanced", "concat: none"),
    "bounded_augmented: balanced": ("augmented: multi_loss", "augmented: balanced"),
    "bounded: multi_loss": ("concat: multi_loss",),
}
SEARCHED = ("learning_rate", "weight_decay")
Sets = Mapping[str, Sequence[Row]]


def sets_of(folder: Path) -> dict[str, list[Row]]:
    """The rows of every SET.jsonl, by set."""
    return {path.stem: shared.rows_of_set(path)[0] for path in sorted(folder.glob("*.jsonl"))}


def ablation_of(name: str, folder: Path, records: Path = ROBUSTNESS) -> list[Row]:
    """`bounded: balanced` of a set, and what was changed in it, from a file for each option or several methods.

    Args:
        name: of the set.
        folder: of the files `OPTION=VALUE.jsonl`, whose method is `balanced`, and of those with other methods.
        records: the folder of the set's own rows, which say which modality is dominant.

    Raises:
        ValueError: the set has no such row.
    """
    known, _ = shared.rows_of_set(records / f"{name}.jsonl")
    changed = [
        replace(row, label=path.stem if row.label == "balanced" else row.label, recipe="")
        for path in sorted(folder.glob("*.jsonl"))
        for row in rows_of(read_records([path]))
    ]
    rows, _ = with_common_dominant([*known, *changed])
    return [candidate(rows, name), *rows[len(known) :]]


def candidate(rows: Iterable[Row], name: str) -> Row:
    """A set's `bounded: balanced`. Raises ValueError if there is no such row."""
    row = row_called(CANDIDATE, rows)
    if row is None:
        raise ValueError(f"{name}: expected the row {CANDIDATE!r} among its records, found none. Run it first.")
    return row


def row_called(label: str, rows: Iterable[Row]) -> Row | None:
    """The row of that label; None without any."""
    return next((row for row in rows if row.label == label), None)


def pairs_of(sets: Sets, label: str, other: str) -> dict[str, tuple[Row, Row]]:
    """The two rows of every set that has both."""
    pairs = {name: (row_called(label, rows), row_called(other, rows)) for name, rows in sets.items()}
    return {name: pair for name, pair in pairs.items() if None not in pair}


def line(name: str, row: Row, base: Row) -> list[str]:
    """A table's line: mean differences of two rows, with 95 % intervals over their seeds."""
    return [f"`{name}`", *(difference_cell(row, base, metric, base.label) for metric in shared.COLUMNS.values())]


def pooled_line(name: str, pairs: Mapping[str, tuple[Row, Row]]) -> list[str]:
    """A table's line: what is pooled of all sets."""
    return [name, *(pooled(pairs, metric) for metric in shared.COLUMNS.values())]


def difference_table(sets: Sets, label: str, other: str) -> str:
    """A line per set that has both rows, and a pooled one; empty without such a set."""
    pairs = pairs_of(sets, label, other)
    lines = [line(name, *pair) for name, pair in pairs.items()]
    if len(lines) > 1:
        lines.append(pooled_line("**pooled**", pairs))
    return markdown_table(["set", *shared.COLUMNS], lines) if lines else ""


def pooled(pairs: Mapping[str, tuple[Row, Row]], metric: str) -> str:
    """Mean over data sets of mean differences, with Student's interval over them from three on."""
    found: dict[str, list[float]] = {}
    for name, (row, base) in pairs.items():
        paired = difference(row, base, metric)
        if paired is not None and name not in shared.BUILT_TO_SHOW:
            found.setdefault(row.dataset, []).append(paired.mean)
    return shared.pooled_cell([sum(own) / len(own) for own in found.values()])


def differences() -> str:
    """The tables of all comparisons, per optimizer."""
    parts = []
    for optimizer, folder in OPTIMIZERS.items():
        sets = sets_of(folder)
        for label, others in COMPARISONS.items():
            for other in others:
                table = difference_table(sets, label, other)
                title = f"`{label}` minus `{other}`, {optimizer}"
                parts.append(f"{title}:\n\n{table}" if table else f"{title}: no records.")
    return "\n\n".join(parts)


def ablations(folder: Path = FOLDER / "ablation", records: Path = ROBUSTNESS) -> str:
    """A table per set of what was changed, as differences to `bounded: balanced`, and one pooled over sets."""
    found = sorted({path.parent for path in folder.glob("*/*.jsonl")})
    sets = {path.name: ablation_of(path.name, path, records) for path in found}
    header = ["change", *shared.COLUMNS]
    parts = [
        f"`{name}` ({base.setting or 'default'}):\n\n"
        + markdown_table(header, [line(row.label, row, base) for row in changed])
        for name, (base, *changed) in sets.items()
    ]
    if len(sets) > 1:
        labels = dict.fromkeys(row.label for _, *changed in sets.values() for row in changed)
        pairs = {label: pairs_of(sets, label, CANDIDATE) for label in labels}
        lines = [pooled_line(f"`{label}`", own) for label, own in pairs.items() if len(own) > 1]
        parts.insert(0, f"Pooled:\n\n{markdown_table(header, lines)}")
    return "\n\n".join(parts) or "No records."


TABLES = {"differences": differences, "ablation": ablations}


def with_tables(text: str) -> str:
    """The page with what stands between `<!-- NAME -->` and `<!-- end -->` made anew.

    Raises:
        ValueError: a table has no such place.
    """
    for name, make in TABLES.items():
        block = f"\n{make()}\n\n".replace("\\", r"\\")
        text, count = re.subn(rf"(?<=<!-- {name} -->\n).*?(?=<!-- end -->)", block, text, flags=re.DOTALL)
        if count != 1:
            raise ValueError(f"expected one '<!-- {name} -->' with '<!-- end -->' behind it, found {count}. Add it.")
    return text


def chosen(name: str, records: Path = ROBUSTNESS) -> str:
    """Learning rate and weight decay of a set's `bounded: balanced`, as a command line gives them.

    Args:
        name: of the set.
        records: the folder of its rows.

    Raises:
        ValueError: there is no such row.
    """
    row = candidate(shared.rows_of_set(records / f"{name}.jsonl")[0], name)
    options = {key: value for key, value in read_recipe(ROBUSTNESS / name / "bounded.yaml").items() if key in SEARCHED}
    options |= dict(part.split("=") for part in row.setting.split(", ") if "=" in part)
    return " ".join(f"--{option}={value}" for option, value in options.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the tables into README.md")
    parser.add_argument("--chosen", metavar="SET", help="print only the options that the search chose there")
    arguments = parser.parse_args()
    page = FOLDER / "README.md"
    if arguments.chosen:
        print(chosen(arguments.chosen))
    elif arguments.write:
        page.write_text(with_tables(page.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print("\n\n".join(f"## {name}\n\n{make()}" for name, make in TABLES.items()))


if __name__ == "__main__":
    main()
