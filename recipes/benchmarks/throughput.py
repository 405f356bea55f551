"""Training throughput by precision: fp32, bf16, bf16 with torch.compile, channels_last.

    python recipes/benchmarks/throughput.py            # OPM + OGM-GE on; a GPU is worth it

Examples per second of whole optimizer steps, and the model FLOPs utilisation: the floating-point operations of the
model's forward and backward (counted by torch, recomputation and modulation not included) over the time, relative to
the device's dense peak for that precision. Writes throughput_<device>.md beside this file (or to --output).
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode
from workload import DEVICE, GPU, Case, build, crema_d, machine, step, timed, tiny, vit_bert

from hf_bml import MultimodalBalancedTrainer, MultimodalForClassification
from hf_bml.analysis.summary import markdown_table

MODULATIONS = {"opm": {}, "ogm": {"alpha": 0.8, "noise": "entry_std"}}
PEAKS = {  # dense teraFLOP/s of tensor cores, from the makers' data sheets: (fp32 as TF32, bf16)
    "H100": (495, 989),
    "H200": (495, 989),
    "A100": (156, 312),
}
VARIANTS = {  # name: (bf16, compile, channels_last)
    "fp32": (False, False, False),
    "fp32, channels_last": (False, False, True),
    "bf16": (True, False, False),
    "bf16, channels_last": (True, False, True),
    "bf16, compile": (True, True, False),
    "bf16, compile, channels_last": (True, True, True),
}


def step_flops(case: Case) -> int:
    """Floating-point operations of one forward and backward pass."""
    model = MultimodalForClassification(case.config).to(DEVICE)
    with FlopCounterMode(display=False) as counter:
        model(**case.batch).loss.backward()
    return counter.get_total_flops()


def peak_flops(bf16: bool) -> float | None:
    """The device's dense peak in FLOP/s, None where it is not known."""
    name = torch.cuda.get_device_name() if GPU else ""
    found = [peaks[int(bf16)] * 1e12 for device, peaks in PEAKS.items() if device in name]
    return found[0] if found else None


def channels_last(value: object) -> object:
    """Images in channels-last layout; anything else as it is."""
    is_images = isinstance(value, torch.Tensor) and value.dim() == 4
    return value.to(memory_format=torch.channels_last) if is_images else value


def measure(case: Case) -> str:
    """The table of one case."""
    torch.set_num_threads(case.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    flops, examples = step_flops(case), len(case.batch["labels"])
    rows = []
    for name, (bf16, compiled, last) in VARIANTS.items():
        with tempfile.TemporaryDirectory() as folder:
            torch.compiler.reset()
            trainer = build(
                replace(case, bf16=bf16), MultimodalBalancedTrainer, folder, MODULATIONS, torch_compile=compiled
            )
            batch = case.batch
            if last:
                trainer.accelerator.unwrap_model(trainer.model).to(memory_format=torch.channels_last)
                batch = {key: channels_last(value) for key, value in batch.items()}
            for _ in range(5):  # also compiles
                step(trainer, batch)
            seconds = float(np.median([timed(partial(step, trainer, batch)) for _ in range(case.steps)]))
        peak = peak_flops(bf16)
        utilisation = "-" if peak is None else f"{100 * flops / seconds / peak:.1f} %"
        rows.append([name, f"{seconds * 1e3:.1f}", f"{examples / seconds:.0f}", utilisation])
    header = ["variant", "step, ms", "examples/s", "model FLOPs utilisation"]
    return f"## {case.title}\n\n{flops / 1e9:.1f} GFLOP a step.\n\n{markdown_table(header, rows)}\n"


def main() -> None:
    if GPU:
        cases = {"crema_d_64": lambda: crema_d(64, 50), "crema_d_256": lambda: crema_d(256, 30)}
        cases["vit_bert_64"] = lambda: vit_bert(64, 30)
    else:
        cases = {"tiny": lambda: tiny(50), "crema_d_8": lambda: crema_d(8, 5)}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=list(cases), default=list(cases))
    default = Path(__file__).with_name(f"throughput_{DEVICE.type}.md")
    parser.add_argument("--output", type=Path, default=default, help=f"default: {default.name}, beside this file")
    chosen = parser.parse_args()
    parts = [f"# Training throughput\n\n`python recipes/benchmarks/throughput.py` on {machine()}\n"]
    for name in chosen.cases:
        parts.append(measure(cases[name]()))
        print(parts[-1], flush=True)
    chosen.output.write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
