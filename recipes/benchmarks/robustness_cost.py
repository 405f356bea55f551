"""What evaluating a run under every default corruption costs beside one plain evaluation, in CPU time.

    python recipes/benchmarks/robustness_cost.py              # three minutes

Both look at the same 1,000 rows, each in a fresh process with an empty cache, so that everything is decoded. Writes
robustness_cost.md beside this file (or to --output).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from datasets import DatasetDict

HERE = Path(__file__).resolve().parent
ROWS = 1000
RECIPE = """
extends: {concat}
dataset: robustness_cost:load
max_steps: 30
num_train_epochs: null
eval_strategy: "no"
save_strategy: "no"
load_best_model_at_end: false
use_cpu: true
disable_tqdm: true
report_to: none
"""
CLI = "import sys; from hf_bml.cli import main; sys.exit(main())"
TIMED = """
import sys, time
from hf_bml.study.finished_run import evaluate
from hf_bml.study.robustness import robustness_run
import hf_bml.models, hf_bml.training.trainer
started = time.process_time()
what, run = sys.argv[1:]
if what == "evaluate":
    evaluate(run, "test")
elif what == "robustness":
    found = robustness_run(run, "test")
    print(len(found["conditions"]), "conditions", file=sys.stderr)
else:
    robustness_run(run, "test")
    started = time.process_time()
    robustness_run(run, "test")
print(f"seconds {time.process_time() - started} {time.process_time()}")
"""
WHAT = {
    "evaluate": "`hf-bml evaluate`",
    "robustness": "`hf-bml robustness`",
    "again": "`robustness_run` of a further run in the same process",
}


def load() -> DatasetDict:
    """av_digits with 1,000 of its training rows as test split, and its test split for training."""
    from hf_bml.data.catalogue import av_digits

    splits = av_digits.load()
    return DatasetDict(train=splits["test"], validation=splits["validation"], test=splits["train"].select(range(ROWS)))


def fresh(code: str, *arguments: str, folder: Path) -> str:
    """The output of a fresh Python with an empty cache."""
    with tempfile.TemporaryDirectory() as cache:
        path = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "HF_DATASETS_CACHE": cache, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=folder, env=environment
        )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout


def main() -> None:
    """Trains for 30 steps, measures both, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2, help="fresh processes each, the best counts (default: 2)")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    chosen = parser.parse_args()
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        recipe = RECIPE.format(concat=HERE.parent / "av_digits" / "concat.yaml")
        (Path(folder) / "cost.yaml").write_text(recipe, encoding="utf-8")
        fresh(CLI, "train", "cost.yaml", "--output_dir", "run", folder=Path(folder))
        for what in WHAT:
            found = [fresh(TIMED, what, "run", folder=Path(folder)) for _ in range(chosen.repeats)]
            seconds[what] = min(list(map(float, text.splitlines()[-1].split()[1:])) for text in found)
            print(WHAT[what], seconds[what], flush=True)
    plain = seconds["evaluate"]
    lines = [
        "# What robustness costs",
        "",
        f"`python recipes/benchmarks/robustness_cost.py`: av_digits, {ROWS:,} rows, `recipes/av_digits/concat.yaml`: "
        "16 noisy conditions, 2 missing ones and the clean one on test; the clean one and 2 missing ones on "
        "validation; a probe of each encoder, from the training split. CPU seconds, the best of "
        f"{chosen.repeats} fresh processes with an empty cache, one thread; "
        f"2 CPU cores, {time.strftime('%Y-%m-%d')}.",
        "",
        "| what | without imports | ratio | with imports | ratio |",
        "|------|-----------------|-------|--------------|-------|",
    ]
    for what, (own, everything) in seconds.items():
        with_imports = ["-", "-"] if what == "again" else [f"{everything:.1f}", f"{everything / plain[1]:.1f}"]
        lines.append(f"| {WHAT[what]} | {own:.1f} | {own / plain[0]:.1f} | {' | '.join(with_imports)} |")
    lines += [
        "",
        "The split is decoded once. Runs of one data set that are evaluated by one command, or by `hf-bml compare "
        "--robustness`, also share the corrupted rows, as far as 1 GiB of memory holds them.",
    ]
    chosen.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
