"""What balancing costs: step time of MultimodalBalancedTrainer against the plain transformers.Trainer.

    python recipes/benchmarks/overhead.py                       # everything this machine can run
    python recipes/benchmarks/overhead.py --cases tiny scores   # some of it

All variants of a case run the same model on the same tensors, one optimizer step each in turn, in one process. A table
shows the median step and the ratio of medians to the plain Trainer with a bootstrap 95 % interval; and, for where the
noise of whole steps hides the difference, the modulation's own time, stamped around its calls, and the ratio derived
from it. `authors' way` re-creates how the published code computes the same: a Python loop over samples that takes the
softmax of the whole batch for each, scores as Python numbers, and one noise tensor a parameter with a standard
deviation that is read back to the host. Writes overhead_<device>.md beside this file (or to --output).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import Trainer
from workload import DEVICE, GPU, Case, build, crema_d, machine, step, synchronize, timed, tiny, vit_bert

from hf_bml import MultimodalBalancedTrainer, MultimodalForClassification
from hf_bml.analysis.summary import markdown_table
from hf_bml.models.forward_view import ForwardView
from hf_bml.modulation.discrepancy import score_totals
from hf_bml.modulation.ogm import enhance_gradients

MODULATIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "OPM": {"opm": {}},
    "OGM": {"ogm": {"alpha": 0.8}},
    "OGM-GE": {"ogm": {"alpha": 0.8, "noise": "entry_std"}},
    "OPM+OGM": {"opm": {}, "ogm": {"alpha": 0.8}},
}


class AuthorsWayTrainer(Trainer):
    """Scores, OPM's drop and OGM(-GE) as the published code computes them, re-created from its description.

    Args:
        method: "OPM", "OGM" or "OGM-GE".
    """

    def __init__(self, *args: Any, method: str, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.method = method
        self.ratio = 1.0

    def keep_modalities(self, view: ForwardView) -> Tensor | None:
        first, second = looped_scores(view.unimodal_logits, self.labels)
        self.ratio = first / second
        if self.method != "OPM":
            return view.modality_mask
        strength = 0.5 * (1 + 0.5 * float(torch.tanh(torch.tensor(self.ratio - 1)))) if self.ratio > 1 else 0.0
        rows = [[bool(np.random.rand() >= strength), True] for _ in range(len(self.labels))]
        return torch.tensor(rows, device=self.labels.device)

    def modulate_features(self, features: dict[str, Tensor], keep_mask: Tensor | None) -> dict[str, Tensor]:
        return features

    def forward_losses(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {}

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        self.labels = inputs["labels"]
        loss = super().training_step(model, {**inputs, "modulation": self}, num_items_in_batch)
        if self.method != "OPM":
            dominant = self.ratio > 1
            coefficient = 1 - float(torch.tanh(torch.tensor(0.8 * max(self.ratio, 1 / self.ratio))))
            for index, encoder in enumerate(model.encoders.values()):
                for parameter in encoder.parameters():
                    if parameter.grad is not None and parameter.grad.dim() > 1:
                        k = coefficient if (index == 0) == dominant else 1.0
                        if self.method == "OGM-GE":
                            noise = torch.zeros_like(parameter.grad).normal_(0, parameter.grad.std().item() + 1e-8)
                            parameter.grad = parameter.grad * k + noise
                        else:
                            parameter.grad = parameter.grad * k
        return loss


def looped_score(logits: Tensor, labels: Tensor) -> float:
    """The summed true-class probability, softmax of the whole batch again for each sample: O(batch^2 classes)."""
    return sum(torch.softmax(logits, dim=1)[index][labels[index]] for index in range(len(labels))).item()


def looped_scores(unimodal_logits: dict[str, Tensor], labels: Tensor) -> list[float]:
    """`looped_score` of each modality."""
    return [looped_score(logits, labels) for logits in unimodal_logits.values()]


@contextmanager
def own_time(trainer: MultimodalBalancedTrainer) -> Iterator[list[float]]:
    """Stamps every call that a plain Trainer would not make, scoring inside the model included."""
    spent: list[float] = []
    watched = [
        *[(trainer.monitor, name) for name in ("update", "step")],
        *[
            (trainer.modulation, name)
            for name in (
                "begin_step",
                "keep_modalities",
                "modulate_features",
                "forward_losses",
                "modulate_losses",
                "modulate_gradients",
            )
        ],
        (trainer, "_new_step"),
        (trainer.accelerator.unwrap_model(trainer.model), "_score"),
    ]
    for owner, name in watched:
        method = getattr(owner, name)

        def stamped(*args: Any, _method: Callable[..., Any] = method, **kwargs: Any) -> Any:
            synchronize()
            started = time.perf_counter()
            result = _method(*args, **kwargs)
            synchronize()
            spent.append(time.perf_counter() - started)
            return result

        setattr(owner, name, stamped)
    try:
        yield spent
    finally:
        for owner, name in watched:
            delattr(owner, name)


def ratio_of_medians(values: np.ndarray, baseline: np.ndarray, draws: int = 2000) -> tuple[float, float, float]:
    """The ratio with its bootstrap 95 % interval; rounds are resampled together, as they ran together."""
    rng = np.random.default_rng(0)
    rows = rng.integers(0, len(values), (draws, len(values)))
    ratios = np.median(values[rows], axis=1) / np.median(baseline[rows], axis=1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(np.median(values) / np.median(baseline)), float(low), float(high)


def measure(case: Case, authors: bool = True) -> str:
    """The table of one case."""
    torch.set_num_threads(case.threads)
    with tempfile.TemporaryDirectory() as folder:
        variants = {"plain Trainer": build(case, Trainer, folder)}
        for name, modulations in MODULATIONS.items():
            variants[name] = build(case, MultimodalBalancedTrainer, folder, modulations)
        if authors:
            for name in ("OPM", "OGM", "OGM-GE"):
                variants[f"authors' way, {name}"] = build(case, AuthorsWayTrainer, folder, method=name)
        names = list(variants)
        warmup = max(3, case.steps // 10)
        times: dict[str, list[float]] = {name: [] for name in names}
        for round_index in range(warmup + case.steps):
            shift = round_index % len(names)
            for name in names[shift:] + names[:shift]:  # nobody always comes after the same neighbour
                times[name].append(timed(partial(step, variants[name], case.batch)))
        own = {}
        for name in MODULATIONS:
            spent_per_step = []
            for _ in range(min(case.steps, 50)):
                with own_time(variants[name]) as spent:
                    step(variants[name], case.batch)
                spent_per_step.append(sum(spent))
            own[name] = float(np.median(spent_per_step))
    plain = np.array(times["plain Trainer"][warmup:])
    rows = []
    for name in names:
        values = np.array(times[name][warmup:])
        ratio, low, high = ratio_of_medians(values, plain)
        derived = ["", ""]
        if name in own:
            derived = [f"{own[name] * 1e3:.2f}", f"{1 + own[name] / np.median(plain):.4f}"]
        extra = (np.median(values) - np.median(plain)) * 1e3
        rows.append(
            [name, f"{np.median(values) * 1e3:.2f}", f"{extra:+.2f}", f"{ratio:.3f} [{low:.3f}, {high:.3f}]", *derived]
        )
    header = ["variant", "step, ms", "extra, ms", "ratio to plain [95 %]", "own time, ms", "derived ratio"]
    return (
        f"## {case.title}\n\n{case.steps} steps each, {case.threads} CPU threads.\n\n{markdown_table(header, rows)}\n"
    )


def draw(gradients: list[Tensor], generator: torch.Generator) -> None:
    """One Gaussian number per gradient entry."""
    for gradient in gradients:
        torch.empty_like(gradient).normal_(generator=generator)


def measure_noise(batch: int = 8) -> str:
    """How long OGM-GE takes beside what cannot be avoided: drawing one Gaussian number per encoder weight."""
    model = MultimodalForClassification(crema_d(batch, 1).config).to(DEVICE)
    rows = []
    for name, encoder in model.encoders.items():
        gradients = [torch.randn_like(p) for p in encoder.parameters()]
        generator = torch.Generator(DEVICE).manual_seed(0)
        count = sum(g.numel() for g in gradients)
        coefficient = torch.tensor(0.5, device=DEVICE)

        drawn = np.median([timed(partial(draw, gradients, generator)) for _ in range(20)])
        enhanced = np.median([timed(partial(enhance_gradients, gradients, coefficient, generator)) for _ in range(20)])
        rows.append([name, f"{count / 1e6:.1f} M", f"{drawn * 1e3:.1f}", f"{enhanced * 1e3:.1f}"])
    header = ["encoder", "weights", "drawing the noise, ms", "OGM-GE in all, ms"]
    return f"## The limit of OGM-GE\n\n{markdown_table(header, rows)}\n"


def measure_scores(classes: int = 309) -> str:
    """Scores of two modalities over the batch: linear, where a loop over samples is quadratic."""
    rows = []
    for batch in (32, 128, 512):
        logits = {name: torch.randn(batch, classes, device=DEVICE) for name in ("audio", "visual")}
        labels = torch.randint(0, classes, (batch,), device=DEVICE)
        ours = np.median([timed(partial(score_totals, logits, labels)) for _ in range(50)])
        loop = np.median([timed(partial(looped_scores, logits, labels)) for _ in range(5)])
        rows.append([str(batch), f"{ours * 1e3:.3f}", f"{loop * 1e3:.1f}"])
    header = ["batch", "ours, ms", "authors' way, ms"]
    return f"## Scores of two modalities, {classes} classes\n\n{markdown_table(header, rows)}\n"


def cases() -> dict[str, Callable[[], str]]:
    """What can be measured on this machine, by name."""
    available: dict[str, Callable[[], str]] = {
        "tiny": lambda: measure(tiny(500)),
        "scores": measure_scores,
        "noise": measure_noise,
    }
    if GPU:
        for batch in (32, 64, 256):
            available[f"crema_d_{batch}"] = lambda batch=batch: measure(crema_d(batch, 100, bf16=True))
        available["vit_bert"] = lambda: measure(vit_bert(32, 60))
    else:
        available["crema_d_8"] = lambda: measure(crema_d(8, 20))
        available["crema_d_32"] = lambda: measure(crema_d(32, 5))
    return available


def main() -> None:
    available = cases()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=list(available), default=list(available))
    default = Path(__file__).with_name(f"overhead_{DEVICE.type}.md")
    parser.add_argument("--output", type=Path, default=default, help=f"default: {default.name}, beside this file")
    chosen = parser.parse_args()
    command = "python recipes/benchmarks/overhead.py"
    parts = [f"# Overhead of balancing\n\n`{command}` on {machine()}\n"]
    for name in chosen.cases:
        parts.append(available[name]())
        print(parts[-1], flush=True)
        chosen.output.write_text("\n".join(parts), encoding="utf-8")  # what is measured is kept


if __name__ == "__main__":
    main()
