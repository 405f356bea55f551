"""A long training of a tiny model with OPM and OGM-GE: does memory stay flat, and do numbers stay finite?

    python recipes/benchmarks/soak.py --steps 20000

Writes soak.md beside this file (or to --output): resident memory along the way, the range of what was logged, and the
size of the trainer's state on disk.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import TrainerCallback
from workload import machine, tiny

from hf_bml import BalancedTrainingArguments, MultimodalBalancedTrainer, MultimodalForClassification
from hf_bml.analysis.summary import markdown_table

MODULATIONS = {"opm": {}, "ogm": {"alpha": 0.8, "noise": "entry_std"}}


def resident_mebibytes() -> float:
    """Resident memory of this process, from /proc (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


class MemoryCallback(TrainerCallback):
    """Notes the resident memory at every log event."""

    def __init__(self) -> None:
        self.samples: list[tuple[int, float]] = []

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.samples.append((state.global_step, resident_mebibytes()))


def soak(steps: int, folder: str) -> dict[str, Any]:
    """Trains, saving and logging along the way.

    Returns:
        `memory`: pairs of step and MiB; `history`: the log; `state_bytes`: size of the last trainer_state.json;
        `seconds`.
    """
    torch.manual_seed(0)
    case = tiny(1)
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 10, 1024)
    columns = {
        name: (generator.normal(size=(1024, 16)) + strength * np.eye(16)[labels]).astype(np.float32)
        for name, strength in (("audio", 3.0), ("visual", 0.7))
    }
    dataset = Dataset.from_dict({**columns, "labels": labels}).with_format("torch")
    args = BalancedTrainingArguments(
        output_dir=folder,
        use_cpu=True,
        optim="sgd",
        optim_args="momentum=0.9",
        learning_rate=1e-2,
        per_device_train_batch_size=64,
        max_steps=steps,
        logging_steps=max(1, steps // 40),
        save_steps=max(1, steps // 4),
        save_total_limit=1,
        disable_tqdm=True,
        modulations=MODULATIONS,
    )
    memory = MemoryCallback()
    trainer = MultimodalBalancedTrainer(
        MultimodalForClassification(case.config), args, train_dataset=dataset, callbacks=[memory]
    )
    started = time.perf_counter()
    trainer.train()
    state = max(Path(folder).glob("checkpoint-*/trainer_state.json"), key=lambda path: path.stat().st_mtime)
    return {
        "memory": memory.samples,
        "history": trainer.state.log_history,
        "state_bytes": state.stat().st_size,
        "seconds": time.perf_counter() - started,
    }


def growth(memory: list[tuple[int, float]]) -> float:
    """MiB that the second half of the training uses more than the end of the first quarter."""
    quarter = len(memory) // 4
    return max(used for _, used in memory[len(memory) // 2 :]) - memory[quarter][1]


def finite_range(history: list[dict[str, Any]], key: str) -> tuple[float, float]:
    """Smallest and largest logged value.

    Raises:
        ValueError: one is not finite.
    """
    values = [entry[key] for entry in history if key in entry]
    if not values or not all(map(math.isfinite, values)):
        raise ValueError(f"{key}: expected finite numbers in the log, found {values[:5]}.")
    return min(values), max(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20_000)
    default = Path(__file__).with_name("soak.md")
    parser.add_argument("--output", type=Path, default=default, help=f"default: {default.name}, beside this file")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        result = soak(chosen.steps, folder)
    memory = result["memory"]
    shown = [memory[round(index * (len(memory) - 1) / 5)] for index in range(6)]
    rows = [[f"resident memory at step {step}, MiB", f"{used:.1f}"] for step, used in shown]
    rows.append(["growth after the first quarter, MiB", f"{growth(memory):+.1f}"])
    keys = [key for key in result["history"][0] if "/" in key or key in ("loss", "grad_norm")]
    for key in keys:
        low, high = finite_range(result["history"], key)
        rows.append([f"{key}, range", f"{low:.4f} to {high:.4f}"])
    rows.append(["trainer_state.json, KiB", f"{result['state_bytes'] / 1024:.1f}"])
    rows.append(["seconds", f"{result['seconds']:.0f}"])
    table = markdown_table(("quantity", "value"), rows)
    text = f"# Soak\n\n`python recipes/benchmarks/soak.py --steps {chosen.steps}` on {machine()}\n\n{table}\n"
    chosen.output.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
