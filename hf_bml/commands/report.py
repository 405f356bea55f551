"""`hf-bml report RUN_DIR [RUN_DIR ...] [--output report]`: finished runs side by side in one HTML page."""

from __future__ import annotations

import sys
from pathlib import Path

from ..study.errors import OneLineErrors, command

DESCRIPTION = """\
Writes OUTPUT/report.html, one page that needs nothing else, and its pictures OUTPUT/figures/*.png.

A RUN_DIR is a run's folder, or one above several, such as the output_dir of hf-bml train or hf-bml compare with
several recipes, methods or seeds. Runs in seed-N folders are shown as mean and spread, and of a comparison the rows of
its table: not the settings that a search tried, nor the models that an ensemble is made of, unless their own folders
are given. All are compared to training without modulations, wherever it is given; without one, to the first run. What
hf-bml probe, missing and analyse have written into the runs' folders is shown; what they have not written is named.
Table and picture that hf-bml sensitivity has written into a RUN_DIR are also shown."""


@command("report", ImportError)
def main(arguments: list[str]) -> None:
    """Writes the report and says where."""
    parser = OneLineErrors(prog="hf-bml report", description=DESCRIPTION)
    parser.add_argument("run_dirs", nargs="+", type=Path, metavar="RUN_DIR", help="folders of finished runs")
    parser.add_argument("--output", type=Path, default=Path("report"), help="folder of the page (default: report)")
    parser.add_argument("--split", default="test", help="split whose analyses are shown (default: test)")
    parser.add_argument("--compare", default="accuracy", help="metric of the differences (default: accuracy)")
    parser.add_argument("--title", default=None, help="the page's title (default: the data sets' names)")
    chosen = parser.parse_args(arguments)
    from ..ground.disk import disk_errors_named  # slow to import, as what follows
    from ..report.write import write_report

    with disk_errors_named(chosen.output):
        print(f"written to {write_report(**vars(chosen))}")


if __name__ == "__main__":
    sys.exit(main())
