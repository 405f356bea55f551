"""`hf-bml missing RUN_DIR [--split test]`: accuracy when modalities are missing at random (paper Fig. 6)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..analysis.coalitions import all_coalitions
from ..analysis.missing_modality import PAPER_FIXED_RATES, PAPER_RATES, check_rates, missing_grid
from ..analysis.summary import markdown_table
from ..processing import FeatureVector
from ..processing.absent_modalities import ABSENCE
from ..study.errors import BAD_INPUT, OneLineErrors, is_main_process, print_error
from ..study.finished_run import check_modality, check_split, load_run, predict
from ..study.json_file import write_json
from ..study.parser import quiet_libraries
from ..study.series import end_processes
from ..study.tensorboard_log import log_to_tensorboard

MISSING_NAME = "missing.json"
DEFAULT_SEEDS = (0, 1, 2, 3, 4)
DESCRIPTION = """\
Writes RUN_DIR/missing.json: every sample loses every modality at random, one modality at a fixed rate, another one at
several. Masks depend on seed, modality and number of samples alone, so all runs on the same data see the same."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0, or 2 with one line on stderr for bad input."""
    quiet_libraries()
    try:
        chosen = build_parser().parse_args(arguments)
        options = {name: value for name, value in vars(chosen).items() if name != "run_dir"}
        found = missing_run(chosen.run_dir, **options)
        end_processes()
    except (ValueError, OSError) as error:
        print_error("hf-bml missing", error)
        return BAD_INPUT
    if is_main_process():
        print(report(found))
        print(f"\nwritten to {chosen.run_dir / MISSING_NAME}")
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = OneLineErrors(prog="hf-bml missing", description=DESCRIPTION)
    parser.add_argument("run_dir", type=Path, help="folder that hf-bml train wrote")
    parser.add_argument("--split", default="test", help="train, validation or test (default: test)")
    parser.add_argument("--fixed", nargs="+", metavar="MODALITY", help="missing at a fixed rate (default: each)")
    parser.add_argument("--varied", nargs="+", metavar="MODALITY", help="missing at several rates (default: each)")
    parser.add_argument(
        "--fixed_rates", nargs="+", type=float, default=list(PAPER_FIXED_RATES), help="default: the paper's 0.1 0.2"
    )
    parser.add_argument(
        "--rates", nargs="+", type=float, default=list(PAPER_RATES), help="default: the paper's nine, 0.1 to 0.3"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=list(DEFAULT_SEEDS), help="of the masks; default: 0-4")
    parser.add_argument(
        "--absence",
        default=ABSENCE[0],
        help="modality_mask (default): the model is told, and the modality's feature is zero; zero_input, as in the "
        "paper: the input tensor is zero, which in a log spectrogram is loud noise, not silence",
    )
    return parser


def missing_run(
    run_dir: str | Path,
    split: str = "test",
    fixed: Sequence[str] | None = None,
    varied: Sequence[str] | None = None,
    fixed_rates: Sequence[float] = PAPER_FIXED_RATES,
    rates: Sequence[float] = PAPER_RATES,
    seeds: Sequence[int] = DEFAULT_SEEDS,
    absence: str = ABSENCE[0],
) -> dict[str, Any]:
    """Evaluates a run's final model with missing modalities.

    Writes `missing.json` and, if the run has one, into its TensorBoard log.

    Under a launcher all processes predict; the main process writes.

    Args:
        run_dir: folder that `hf-bml train` wrote.
        split: train (not augmented), validation or test.
        fixed: modalities that are missing at a fixed rate, one curve each; default all.
        varied: modalities that are missing at several rates; default all, but never with itself fixed.
        fixed_rates, rates: in [0, 1].
        seeds: of the masks.
        absence: `modality_mask` or `zero_input`, see `WithoutModalities`.

    Returns:
        JSON-able: `split`, `absence`, `seeds`, `grids` (see `missing_grid`), and the accuracy with nothing missing,
        `complete`; with `zero_input` also `zeros`, by modality what its zeros mean, unless silence or similar.

    Raises:
        FileNotFoundError: not a run's folder.
        ValueError: unknown split, modality or absence, a rate out of range, a seed that is negative or given twice,
            a single modality, or more than 6.
    """
    check_split(split)
    check_rates("--fixed_rates", fixed_rates)
    check_rates("--rates", rates)
    if len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise ValueError(f"--seeds must differ and be at least 0, found {list(seeds)}.")
    if absence not in ABSENCE:
        raise ValueError(f"--absence must be one of {', '.join(ABSENCE)}, found {absence!r}.")
    run = load_run(run_dir)
    trainer = run.trainer()
    modalities = list(trainer.modalities)
    for option, names in (("--fixed", fixed), ("--varied", varied)):
        for name in names or ():
            check_modality(option, name, modalities)
    pairs = [(a, b) for a in fixed or modalities for b in varied or modalities if a != b]
    if not pairs:
        raise ValueError(
            f"expected two different modalities, one missing at a fixed rate and one at several; found fixed "
            f"{list(fixed or modalities)} and varied {list(varied or modalities)}."
        )
    correct = {}
    for coalition in all_coalitions(modalities):
        absent = [name for name in modalities if name not in coalition]
        seen = predict(trainer, run.dataset[split], absent=absent, absence=absence)
        correct[coalition] = seen.correct
    grids = [
        missing_grid(correct, modalities, a, rate, b, rates, seeds, seen.samples)
        for a, b in pairs
        for rate in fixed_rates
    ]
    found = {"split": split, "absence": absence, "seeds": list(seeds), "grids": grids}
    found["complete"] = float(correct[tuple(modalities)].mean())
    if absence == "zero_input":
        transforms = run.processor.transforms if run.processor is not None else {}
        zeros = {name: transforms.get(name, FeatureVector).zeros for name in modalities}
        found["zeros"] = {name: what for name, what in zeros.items() if what}
    if trainer.is_world_process_zero():
        write_json(found, Path(run_dir) / MISSING_NAME)
        log_to_tensorboard(run, split, {None: scalars(found)})
    return found


def scalars(found: dict[str, Any]) -> dict[str, float]:
    """The mean accuracies, as trackers know them: `missing/modality_mask/audio_10/visual_12.5`, rates in per cent."""
    named = {"missing/complete": found["complete"]}
    for grid in found["grids"]:
        for rate, accuracy in zip(grid["rates"], grid["accuracy"], strict=True):
            fixed, varied = f"{grid['fixed']}_{100 * grid['fixed_rate']:g}", f"{grid['varied']}_{100 * rate:g}"
            named[f"missing/{found['absence']}/{fixed}/{varied}"] = accuracy
    return named


def report(found: dict[str, Any]) -> str:
    """The printed table, a row per curve."""
    rates = found["grids"][0]["rates"]
    rows = []
    for grid in found["grids"]:
        cells = [
            f"{100 * mean:.1f}" + ("" if std is None else f" ± {100 * std:.1f}")
            for mean, std in zip(grid["accuracy"], grid["std"], strict=True)
        ]
        rows.append([f"{grid['fixed']} {100 * grid['fixed_rate']:g} %", grid["varied"], *cells])
    table = markdown_table(["fixed", "varied", *[f"{100 * rate:g} %" for rate in rates]], rows)
    seeds = ", ".join(map(str, found["seeds"]))
    zeros = "".join(f"\nzeros are not silence for {name}: {what}" for name, what in found.get("zeros", {}).items())
    return (
        f"{found['split']} split, accuracy times 100, {found['absence']}, mean ± standard deviation over masks "
        f"({seeds})\nnothing missing: {100 * found['complete']:.1f}{zeros}\n\n{table}"
    )


if __name__ == "__main__":
    sys.exit(main())
