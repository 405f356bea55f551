"""The tables of runs that are recorded in files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..analysis.metric_names import compared_by, metric_names
from ..analysis.records import read_records, rows_of
from ..ground.disk import check_writable
from .comparison import check_control
from .comparison_files import pictures, write_comparison
from .metric_checks import check_metric
from .plan import check_name


def write_collected(
    collect: Sequence[Path],
    compare: str = "accuracy",
    control: str | None = None,
    columns: Sequence[str] = (),
    name: str = "comparison",
    output_dir: Path = Path("."),
) -> str:
    """Writes the files of `write_comparison`.

    Args:
        collect: files `NAME.jsonl` that `hf-bml compare` wrote.
        compare, control, columns, name: see `write_comparison`.
        output_dir: made if it is not there.

    Returns:
        the table, the notes, and what was written.

    Raises:
        ValueError: no record, an unknown metric or control, or a file that holds something else.
        OSError: a file cannot be read or written.
    """
    check_name(name)
    rows = rows_of(read_records(collect))
    if not rows:
        raise ValueError(f"--collect: {', '.join(map(str, collect))} hold no run but those of searches.")
    known, compare = metric_names(rows), compared_by(rows, compare)
    for option, metric in (("--compare", compare), *(("--columns", column) for column in columns)):
        check_metric(option, metric, known)
    check_control(control, rows)
    check_writable(output_dir)
    title = ", ".join(dict.fromkeys(row.dataset for row in rows))
    text = write_comparison(rows, output_dir, name, compare, control, title, columns=columns)
    return f"{text}\nwritten to {output_dir / name}.md, .csv, _runs.csv and {', '.join(pictures(rows))}"
