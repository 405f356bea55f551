"""How long imports and the command line take to start, in CPU time.

    python recipes/benchmarks/start_up.py              # two minutes

The best of several fresh processes each. Writes start_up.md beside this file (or to --output).
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from pathlib import Path

from workload import machine

CLI = "import sys; from hf_bml.cli import main; sys.exit(main())"
STARTS = {
    "`from transformers import Trainer`": ["from transformers import Trainer"],
    "`import hf_bml`": ["import hf_bml"],
    "`import hf_bml, transformers`": ["import hf_bml, transformers"],
    "`import hf_bml; from transformers import Trainer`": ["import hf_bml; from transformers import Trainer"],
    "`from hf_bml import MultimodalBalancedTrainer`": ["from hf_bml import MultimodalBalancedTrainer"],
    "`hf-bml --help`": [CLI, "--help"],
    "`hf-bml trian`, an unknown command": [CLI, "trian"],
    "`hf-bml train missing.yaml`": [CLI, "train", "missing.yaml"],
    "`hf-bml train --help`": [CLI, "train", "--help"],
    "`hf-bml report --help`": [CLI, "report", "--help"],
}


def cpu_seconds(arguments: list[str]) -> float:
    """User and system time of a fresh Python that runs code with arguments."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", *arguments], capture_output=True, text=True)
    if "Traceback" in done.stderr:
        raise RuntimeError(done.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measures every start and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="fresh processes each (default: 3)")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    chosen = parser.parse_args()
    lines = [
        "# Start-up",
        "",
        f"`python recipes/benchmarks/start_up.py`, the best of {chosen.repeats} fresh processes each, on {machine()}",
        "",
        "| start | CPU seconds |",
        "|-------|-------------|",
    ]
    for name, arguments in STARTS.items():
        best = min(cpu_seconds(arguments) for _ in range(chosen.repeats))
        lines.append(f"| {name} | {best:.2f} |")
        print(lines[-1], flush=True)
    chosen.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
