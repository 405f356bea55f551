"""What a step of each method costs beside the plain transformers.Trainer, in CPU time.

    python recipes/benchmarks/methods_cost.py                   # eight minutes of CPU time
    python recipes/benchmarks/methods_cost.py --cases tiny      # a quarter of a minute

A method runs on the model that it needs, and is compared to the plain Trainer on that model: same weights, same batch.
The variants of a group take one batch each in turn, in one process; a method that repeats a batch takes all its steps.
What comes once an epoch, or less often, is not part of it: passes over the training split, side trainings. Writes
methods_cost.md beside this file (or to --output).
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers
from overhead import ratio_of_medians
from torch import Tensor
from transformers import Trainer
from workload import Case, build, crema_d, step, tiny

from hf_bml import MODULATIONS, MultimodalBalancedTrainer, MultimodalConfig, MultimodalForClassification
from hf_bml.analysis.summary import markdown_table

WARMUP = 2  # batches, each an epoch of its own; the measured ones lie in the third epoch
GROUP = 12  # methods that share a plain Trainer
ACTING = {  # options with which the method acts in the third epoch
    "greedy": {"starting_epoch": 0},
    "inforeg": {"threshold": -1e6},
}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, ACTING.get(name, {})) for name in MODULATIONS},
    "ogm, noise: entry_std": ("ogm", {"noise": "entry_std"}),
    "multi_loss, heads: own": ("multi_loss", {"heads": "own"}),
    "lfm, schedule: learned": ("lfm", {"schedule": "learned"}),
}


NO_METHOD = "no method: scores and ratios alone"


class Measured(NamedTuple):
    """CPU seconds for a batch, and their ratio to the plain Trainer's, of medians, with its 95 % interval."""

    seconds: float
    ratio: float
    low: float
    high: float


def rows_of(batch: Mapping[str, Tensor], count: int = 16) -> list[dict[str, Tensor]]:
    """The rows of a batch, again and again: a training split for methods that look at it."""
    length = len(batch["labels"])
    return [{name: value[index % length] for name, value in batch.items()} for index in range(count)]


def teachers(case: Case, folder: str) -> dict[str, str]:
    """Saves an untrained model of each modality; by modality its folder."""
    folders = {}
    for name, encoder in case.config.modalities.items():
        config = MultimodalConfig(modalities={name: encoder}, num_labels=case.config.num_labels)
        folders[name] = f"{folder}/{name}"
        MultimodalForClassification(config).save_pretrained(folders[name])
    return folders


def with_options(case: Case, options: Mapping[str, Any]) -> Case:
    """The case with other options of its model's config."""
    config = MultimodalConfig(modalities=case.config.modalities, num_labels=case.config.num_labels, **options)
    return dataclasses.replace(case, config=config)


def trained(case: Case, name: str, options: Mapping[str, Any], folder: str) -> Trainer:
    """A trainer with a method, which has already estimated what it would estimate in a side training."""
    arguments = {"trained_alone": teachers(case, folder)} if name in ("g2d", "umt") else None
    rows = rows_of(case.batch)
    trainer = build(
        case, MultimodalBalancedTrainer, folder, {name: dict(options)}, arguments=arguments, train_dataset=rows
    )
    if name == "gradient_blending":
        [method] = trainer.modulation
        count = len(case.config.modalities) + 1
        method.load_state_dict({**method.state_dict(), "weights": [1 / count] * count})
    return trainer


def cpu_seconds(trainer: Trainer, case: Case, epoch: int) -> float:
    """CPU seconds of this process for all steps on a batch."""
    trainer.state.epoch = float(epoch)
    balanced = isinstance(trainer, MultimodalBalancedTrainer)
    started = time.process_time()
    for _ in range(trainer.steps_per_batch if balanced else 1):
        step(trainer, case.batch)
    return time.process_time() - started


def measure_group(case: Case, names: list[str], folder: str) -> dict[str, Measured]:
    """Ratios of variants whose methods need the same model."""
    trainers: dict[str, Trainer] = {"plain": build(case, Trainer, f"{folder}/plain")}
    for name in names:
        method, options = VARIANTS.get(name, ("", {}))
        if method:
            trainers[name] = trained(case, method, options, f"{folder}/{method}")
        else:
            trainers[name] = build(case, MultimodalBalancedTrainer, f"{folder}/none")
    order, times = list(trainers), {name: [] for name in trainers}
    for index in range(WARMUP + case.steps):
        shift = index % len(order)
        for name in order[shift:] + order[:shift]:
            times[name].append(cpu_seconds(trainers[name], case, min(index, WARMUP)))
    found = {name: np.array(values[WARMUP:]) for name, values in times.items()}
    plain = found["plain"]
    return {
        name: Measured(float(np.median(values)), *ratio_of_medians(values, plain)) for name, values in found.items()
    }


def groups(case: Case) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Options of a model's config, and the variants that need such a model."""
    by_options: dict[str, tuple[dict[str, Any], list[str]]] = {"{}": ({}, [NO_METHOD])}
    for name, (method, options) in VARIANTS.items():
        needed = dict(MODULATIONS[method](**options).needs(list(case.config.modalities)).model_options)
        by_options.setdefault(str(needed), (needed, []))[1].append(name)
    for needed, names in by_options.values():
        for first in range(0, len(names), GROUP):
            yield needed, names[first : first + GROUP]


def measure(case: Case) -> dict[str, Measured]:
    """Ratios by variant; without those whose model this case cannot be."""
    torch.set_num_threads(1)
    found: dict[str, Measured] = {}
    for needed, names in groups(case):
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                changed = with_options(case, needed)
                MultimodalForClassification(changed.config)
            except (TypeError, ValueError) as error:
                print(f"{case.title}: {names}: {error}", flush=True)
                continue
            found = {**measure_group(changed, names, folder), **found}  # "plain" is that of the first group
        print(f"{case.title}: {names}", flush=True)
    return found


CASES: dict[str, Callable[[], Case]] = {"tiny": lambda: tiny(200), "resnet": lambda: crema_d(8, 5)}


def table(measured: Mapping[str, Mapping[str, Measured]]) -> str:
    """A row per variant, a column per case."""
    titles = {"tiny": "tiny pair, batch 64", "resnet": "ResNet-18 pair, batch 8"}
    rows = [["plain Trainer, concat", *(f"{found['plain'].seconds * 1e3:.2f} ms" for found in measured.values())]]
    for name in [NO_METHOD, *VARIANTS]:
        method, _, options = name.partition(", ")
        cells = [
            "{:.2f} [{:.2f}, {:.2f}]".format(*found[name][1:]) if name in found else "–" for found in measured.values()
        ]
        label = name if name == NO_METHOD else f"`{method}`" + (f" with `{options}`" if options else "")
        rows.append([label, *cells])
    return markdown_table(["method", *(titles[case] for case in measured)], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    chosen = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    load, started, measured = os.getloadavg()[0], time.process_time(), {}
    for name in chosen.cases:
        measured[name] = measure(CASES[name]())
        chosen.output.write_text(page(measured, time.process_time() - started, load), encoding="utf-8")
    print(table(measured))


def page(measured: Mapping[str, Mapping[str, Measured]], seconds: float, load: float) -> str:
    """The file that is written."""
    counts = " and ".join(str(CASES[name]().steps) for name in measured)
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    return f"""# What a step of each method costs

`python recipes/benchmarks/methods_cost.py` on {os.cpu_count()} CPU cores, 1 thread; {versions};
{time.strftime("%Y-%m-%d")}; {seconds / 60:.0f} minutes of CPU time, load average {load:.1f} at the start.

CPU time of the process for a batch, as a ratio to the plain Trainer with the same model: the ratio of the medians of
{counts} alternating batches, after {WARMUP}, with a bootstrap 95 % interval. CPU time and medians, as other processes
used the machine, too; differences of a few percent on the ResNet-18 pair are within the noise. The tiny pair, two
linear encoders, shows the fixed cost of a step. A method is compared on the model that it needs. `mla` takes two steps
on a batch; `data_remixing` is in its warm-up, and `sample_valuation` in an epoch without further copies. Not in the
ratios is what comes once an epoch or less often: passes over the training split (`pmr`, `sample_valuation`,
`data_remixing`, `relearning`), the side training of `gradient_blending`, and the training of the teachers of `umt` and
`g2d`.

{table(measured)}

`–`: the tiny pair has no stages for MMTM to connect. `greedy` and `inforeg` had options with which they act in the
third epoch, where the measured batches lie. The first of these begins the epoch: `pmr` reads 16 rows there, which of
few batches its interval shows.
"""


if __name__ == "__main__":
    main()
