"""The tables and pictures of this folder, from its records.

    python recipes/robustness/tables.py                  # the tables of every set, and their pooled differences
    python recipes/robustness/tables.py --write          # puts them into README.md, and draws SET.png; two tables and
                                                         # front.png are those of the front page

All rows of a set have one dominant modality: the one whose absence costs plain training (`concat: none`) most on
validation. `digits`, built to show the effect, is not pooled, nor are the data of another set with other encoders.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hf_bml.analysis.comparison_table import mean_cell
from hf_bml.analysis.records import read_records, rows_of
from hf_bml.analysis.references import difference
from hf_bml.analysis.robustness import with_common_dominant
from hf_bml.analysis.row import PLAIN, Row
from hf_bml.analysis.summary import markdown_table, paired_difference

FOLDER = Path(__file__).parent
BUILT_TO_SHOW = ("digits",)
FEW_LABELS = FOLDER / "few_labels"  # records of trainings with few rows of a class
NOT_POOLED = (*BUILT_TO_SHOW, "av_digits_pool")  # the latter has the data of another set
MARK = "<!-- tables -->"
REFERENCE = f"concat: {PLAIN}"
COLUMNS = {
    "clean": "robust/clean",
    "one missing": "robust/missing_average",
    "dominant noisy": "robust/dominant_noisy",
    "others noisy": "robust/others_noisy",
    "worst": "robust/worst",
    "ECE, noisy": "robust/ece_noisy",
    "weak probe": "robust/probe_weak",
}

FRONT = {
    "av_digits": "spoken digits, a new speaker\n(6 speakers)",
    "av_letters": "spoken letters, lips\n(5 seeds)",
}
FRONT_ROWS = {
    "concat: balanced": "`balanced`",
    "augmented: balanced": "`balanced`, noise in training",
    "concat: multi_loss": "`multi_loss`",
    "concat: mod_drop": "`mod_drop`",
    "concat: ensemble": "ensemble of single modalities",
    "concat: opm": "`opm`",
    "concat: ogm:noise=entry_std": "`ogm` with noise (OGM-GE)",
}
FRONT_COLUMNS = ("clean", "one missing", "dominant noisy", "worst")
ACCURACIES = {  # column: metric and row
    "clean: plain": ("robust/clean", REFERENCE),
    "`balanced`": ("robust/clean", "concat: balanced"),
    "`opm`": ("robust/clean", "concat: opm"),
    "best single": ("robust/clean", "concat: unimodal"),
    "one missing: plain": ("robust/missing_average", REFERENCE),
    " `balanced`": ("robust/missing_average", "concat: balanced"),
    " `opm`": ("robust/missing_average", "concat: opm"),
}
SERIES = {REFERENCE: "plain training", "concat: opm": "OPM", "concat: balanced": "balanced"}
CONDITIONS = {
    "clean": "robust/clean",
    "audio missing": "robust/missing_audio",
    "image or video missing": "robust/missing_visual",
    "audio noisy": "robust/noisy_audio",
    "image or video noisy": "robust/noisy_visual",
}


def rows_of_set(*paths: Path) -> tuple[list[Row], list[str]]:
    """A set's rows, `label` with the recipe, and notes on what the columns are."""
    rows = [replace(row, label=row.sourced, recipe="") for row in rows_of(read_records(paths))]
    rows.sort(key=lambda row: row.label != REFERENCE)  # the others are compared to the first row
    return with_common_dominant(rows)


def known_columns(rows: Sequence[Row]) -> dict[str, str]:
    """Those of `COLUMNS` that any run has."""
    names = {name for row in rows for run in row.runs for name in run}
    return {title: metric for title, metric in COLUMNS.items() if metric in names}


def set_table(rows: Sequence[Row]) -> str:
    """Mean ± standard deviation over seeds, per cent; the best mean of each column in bold."""
    columns = known_columns(rows)
    means = {metric: [row.mean(metric) for row in rows] for metric in columns.values()}
    best = {m: min(values) if "ece" in m else max(v for v in values if v == v) for m, values in means.items()}

    def cell(row: Row, metric: str) -> str:
        text = mean_cell(row, metric)
        return f"**{text}**" if row.mean(metric) == best[metric] else text

    lines = [[f"`{row.label}`", *(cell(row, metric) for metric in columns.values())] for row in rows]
    return markdown_table(["row", *columns], lines)


def pooled_differences(
    sets: dict[str, list[Row]], rows: Mapping[str, str] | None = None, titles: Sequence[str] = tuple(COLUMNS)
) -> str:
    """Mean over sets of each row's mean paired difference to plain training, a set's first row; of three sets or more
    with Student's interval over the sets.

    Args:
        sets: the rows of each.
        rows: what the rows are called, by label; default: all, by their labels.
        titles: of the columns.
    """
    names = rows or {row.label: f"`{row.label}`" for own in sets.values() for row in own[1:]}

    def cell(label: str, metric: str) -> str:
        found = [
            paired.mean
            for own in sets.values()
            for row in own
            if row.label == label and (paired := difference(row, own[0], metric)) is not None
        ]
        return pooled_cell(found)

    known = known_columns([row for own in sets.values() for row in own])
    columns = {title: metric for title, metric in known.items() if title in titles}
    lines = [[name, *(cell(label, metric) for metric in columns.values())] for label, name in names.items()]
    return markdown_table(["row", *columns], lines)


def pooled_cell(found: Sequence[float]) -> str:
    """The mean of differences, one per set, in points; of three or more with Student's interval over them."""
    if not found:
        return "-"
    pooled = paired_difference(found, [0.0] * len(found))
    interval = f" [{100 * pooled.low:+.1f}, {100 * pooled.high:+.1f}]" if len(found) > 2 else ""
    return f"{100 * pooled.mean:+.1f}{interval}"


def draw(name: str, rows: Sequence[Row], folder: Path = FOLDER) -> None:
    """A panel per column, a dot per row, into SET.png."""
    from hf_bml.figures.dots import dot_plot

    records = [
        {"row": row.label, "panel": title, "value": run.get(metric, float("nan"))}
        for title, metric in list(COLUMNS.items())[:4]
        for row in rows
        for run in row.runs
    ]
    title = f"{name}: {len(rows[0].runs)} {'folds' if rows[0].folds else 'seeds'}, 95 % intervals, test split"
    dot_plot(records, folder / f"{name}.png", title, label="accuracy", reference=[rows[0].label], order="descending")


def draw_front() -> None:
    """The picture of the front page: plain training beside balanced, by what is missing or noisy."""
    from hf_bml.figures.dots import dot_plot

    records = [
        {"panel": title, "row": condition, "series": series, "value": run[metric]}
        for name, title in FRONT.items()
        for row in rows_of_set(FOLDER / f"{name}.jsonl")[0]
        if (series := SERIES.get(row.label)) is not None
        for condition, metric in CONDITIONS.items()
        for run in row.runs
    ]
    looks = {"plain training": {"color": "0.45", "marker": "o"}, "OPM": {"color": "C0", "marker": "s"}}
    looks["balanced"] = {"color": "C1", "marker": "D"}
    dot_plot(records, FOLDER / "front.png", label="test accuracy", styles=looks, order=None, shared=True)


def few_labels_table(path: Path) -> str:
    """A set's table with few rows of a class, and how many."""
    rows, _ = rows_of_set(path)
    protocol = rows[0].runs[0]["protocol"]
    return f"`{path.stem}`, {protocol['train']} of {protocol['pool']} training rows:\n\n{set_table(rows)}"


def all_sets() -> dict[str, tuple[list[Row], list[str]]]:
    """The rows of every set that has records, and notes."""
    return {path.stem: rows_of_set(path) for path in sorted(FOLDER.glob("*.jsonl"))}


def pooled_sets(sets: Mapping[str, list[Row]]) -> dict[str, list[Row]]:
    """Each data set once, and none that is built to show an effect."""
    return {name: rows for name, rows in sets.items() if name not in NOT_POOLED}


def all_tables() -> str:
    """A chapter per set, one of the pooled differences, and the last one of few labels."""
    sets = all_sets()
    caption = "Accuracy on clean data, with one modality missing and with noise"
    chapters = [
        f"## {name}\n\n![{caption}]({name}.png)\n\n{set_table(rows)}\n\n{' '.join(notes)}"
        for name, (rows, notes) in sets.items()
    ]
    pooled = pooled_sets({name: rows for name, (rows, _) in sets.items()})
    if len(pooled) > 1:
        chapters.append(f"## Pooled: {', '.join(pooled)}\n\n{pooled_differences(pooled)}")
    few = [few_labels_table(path) for path in sorted(FEW_LABELS.glob("*.jsonl"))]
    if few:
        chapters.append("\n\n".join(["## Few labels", *few]))
    return "\n\n".join(chapters)


def front_tables() -> dict[str, str]:
    """Those of the front page, by name: pooled differences, and a line per set."""
    sets = {name: rows for name, (rows, _) in all_sets().items()}

    def cell(rows: Sequence[Row], metric: str, label: str) -> str:
        return next(mean_cell(row, metric) for row in rows if row.label == label)

    lines = [
        [f"[{name}](recipes/{name}/README.md)", *(cell(rows, *column) for column in ACCURACIES.values())]
        for name, rows in sets.items()
        if name not in NOT_POOLED
    ]
    return {
        "differences": pooled_differences(pooled_sets(sets), FRONT_ROWS, FRONT_COLUMNS),
        "accuracies": markdown_table(["set", *(title.strip() for title in ACCURACIES)], lines),
    }


def with_front_tables(text: str) -> str:
    """The front page with what stands between `<!-- NAME -->` and `<!-- end -->` made anew."""
    for name, table in front_tables().items():
        before, marked, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        text = f"{before}{marked}\n{table}\n\n{end}{after}"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="into README.md, with SET.png beside it")
    if not parser.parse_args().write:
        print(all_tables())
        return
    page = FOLDER / "README.md"
    before, _ = page.read_text(encoding="utf-8").split(MARK)
    page.write_text(f"{before}{MARK}\n\n{all_tables()}\n", encoding="utf-8")
    front = FOLDER.parents[1] / "README.md"
    front.write_text(with_front_tables(front.read_text(encoding="utf-8")), encoding="utf-8")
    for path in sorted(FOLDER.glob("*.jsonl")):
        draw(path.stem, rows_of_set(path)[0])
    draw_front()


if __name__ == "__main__":
    main()
