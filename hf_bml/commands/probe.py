"""`hf-bml probe RUN_DIR [--alone]`: linear probe of every encoder at every saved checkpoint (paper Fig. 1)."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path

from ..analysis.linear_probe import ProbeSettings
from ..study.command_lines import HelpFormatter
from ..study.errors import command
from ..study.parser import RecipeParser
from ..study.probe import PROBE_NAME, probe_run, probe_text

DESCRIPTION = """\
Fits a linear classifier on the frozen features of the training split, per modality and saved model, and writes its
accuracies to RUN_DIR/probe.json. For a course over epochs train with a --save_total_limit that keeps the
checkpoints."""


@command("probe")
def main(arguments: list[str]) -> str:
    """Probes a run's encoders; returns the table."""
    parser = RecipeParser(
        ProbeSettings,
        prog="hf-bml probe",
        description=DESCRIPTION,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("run_dir", type=Path, help="Folder that hf-bml train wrote.")
    parser.add_argument("--split", default="test", help="Where the probes are tested: train, validation or test.")
    parser.add_argument(
        "--alone",
        nargs="*",
        default=None,
        metavar="MODALITY[=RUN_DIR]",
        help="Also probe solely trained unimodal models (of all modalities if none is named). Without RUN_DIR, the "
        "run's recipe with that modality alone is trained in RUN_DIR/alone, unless it was before.",
    )
    chosen = parser.parse_args(arguments)
    settings = ProbeSettings(**{f.name: vars(chosen)[f.name] for f in fields(ProbeSettings)})
    found = probe_run(chosen.run_dir, chosen.split, settings, chosen.alone)
    return f"{probe_text(found)}\n\nwritten to {chosen.run_dir / PROBE_NAME}"


if __name__ == "__main__":
    sys.exit(main())
