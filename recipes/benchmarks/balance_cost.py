"""What `balance()` costs: a step of a wrapped model beside that of the same model in the plain transformers.Trainer.

    python recipes/benchmarks/balance_cost.py                        # two minutes of CPU time
    python recipes/benchmarks/balance_cost.py --cases two_encoders   # one of the models

The models have random weights: two small encoders in front of a transformer of six layers, where nearly all time is
spent behind the encoders; a LLaVA-style model, whose encoders are a vision tower and a table of token embeddings; and
a CLIP-style one, where nothing but a linear layer comes behind the encoders. All variants of a model take ten steps
each in turn, in one process, with OPM and OGM on (or with no method). Writes balance_cost.md beside this file (or to
--output).
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
import transformers
from overhead import ratio_of_medians
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaModel, Trainer
from workload import prepared, step

from hf_bml import BalancedTrainingArguments, MultimodalBalancedTrainer, balance
from hf_bml.analysis.summary import markdown_table

LABELS, STEPS, WARMUP = 5, 10, 1  # STEPS are taken in turn: as many as the largest score_every
METHODS = {"opm": {}, "ogm": {}}
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # what is balanced with, and options of balance()
    "no method": ({}, {}),
    "OPM+OGM": (METHODS, {}),
    "OPM+OGM, `score_fraction=0.25`": (METHODS, {"score_fraction": 0.25}),
    "no method, `score_every=10`": ({}, {"score_every": 10}),
    "OPM+OGM, `score_every=10`": (METHODS, {"score_every": 10}),
    "OPM+OGM, `score_every=10, score_fraction=0.25`": (METHODS, {"score_every": 10, "score_fraction": 0.25}),
}


class TwoEncoders(nn.Module):
    """Two small encoders of 20 tokens each, whose tokens meet in a transformer of six layers."""

    paths: ClassVar = {"audio": "hear", "visual": "see"}

    def __init__(self, width: int = 96):
        super().__init__()
        self.hear = nn.Sequential(nn.Linear(40, width), nn.GELU(), nn.Linear(width, width))
        self.see = nn.Sequential(nn.Linear(48, width), nn.GELU(), nn.Linear(width, width))
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.1, batch_first=True, norm_first=True)
        self.trunk = nn.TransformerEncoder(layer, 6, enable_nested_tensor=False)
        self.head = nn.Linear(width, LABELS)

    def forward(self, audio: Tensor, visual: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Logits `(batch, labels)` of `(batch, 20, 40)` and `(batch, 20, 48)`, and their cross-entropy."""
        tokens = self.trunk(torch.cat([self.hear(audio), self.see(visual)], dim=1))
        return with_loss(self.head(tokens.mean(1)), labels)

    @staticmethod
    def batch() -> dict[str, Tensor]:
        """Sixteen samples."""
        return {"audio": torch.randn(16, 20, 40), "visual": torch.randn(16, 20, 48)}


class LlavaClassifier(nn.Module):
    """transformers' LLaVA, a linear layer on its last token."""

    paths: ClassVar = {"image": "llava.vision_tower", "text": "llava.language_model.embed_tokens"}

    def __init__(self):
        super().__init__()
        size = {"hidden_size": 96, "intermediate_size": 256, "num_attention_heads": 4}
        vision = CLIPVisionConfig(**size, num_hidden_layers=2, image_size=32, patch_size=8)
        text = LlamaConfig(**size, num_hidden_layers=4, vocab_size=200)
        self.llava = LlavaModel(LlavaConfig(text_config=text, vision_config=vision, image_token_id=199))
        self.score = nn.Linear(96, LABELS)

    def forward(self, pixel_values: Tensor, input_ids: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Logits `(batch, labels)` of images `(batch, 3, 32, 32)` and tokens, 16 of which stand for the image."""
        output = self.llava(input_ids=input_ids, pixel_values=pixel_values)
        return with_loss(self.score(output.last_hidden_state[:, -1]), labels)

    @staticmethod
    def batch() -> dict[str, Tensor]:
        """Sixteen samples of 16 patches and 24 words."""
        places, words = torch.full((16, 16), 199), torch.randint(1, 198, (16, 24))
        return {"pixel_values": torch.randn(16, 3, 32, 32), "input_ids": torch.cat([places, words], dim=1)}


class ClipClassifier(nn.Module):
    """transformers' CLIP, a linear layer on both pooled outputs."""

    paths: ClassVar = {"image": "clip.vision_model", "text": "clip.text_model"}

    def __init__(self):
        super().__init__()
        size = {"hidden_size": 96, "intermediate_size": 256, "num_attention_heads": 4, "num_hidden_layers": 4}
        text = {**size, "vocab_size": 200, "max_position_embeddings": 24, "eos_token_id": 199}
        self.clip = CLIPModel(CLIPConfig(text_config=text, vision_config={**size, "image_size": 32, "patch_size": 8}))
        self.classifier = nn.Linear(192, LABELS)

    def forward(self, pixel_values: Tensor, input_ids: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Logits `(batch, labels)` of images `(batch, 3, 32, 32)` and tokens `(batch, 24)`."""
        image = self.clip.vision_model(pixel_values=pixel_values).pooler_output
        text = self.clip.text_model(input_ids=input_ids).pooler_output
        return with_loss(self.classifier(torch.cat([image, text], dim=-1)), labels)

    @staticmethod
    def batch() -> dict[str, Tensor]:
        """Sixteen samples."""
        return {"pixel_values": torch.randn(16, 3, 32, 32), "input_ids": torch.randint(1, 199, (16, 24))}


def with_loss(logits: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
    """A model's output: logits `(batch, labels)`, and the cross-entropy where labels `(batch,)` are given."""
    loss = {} if labels is None else {"loss": nn.functional.cross_entropy(logits, labels)}
    return {**loss, "logits": logits}


CASES: dict[str, tuple[str, type[nn.Module]]] = {
    "two_encoders": ("6 layers behind two encoders", TwoEncoders),
    "llava": ("LLaVA-style", LlavaClassifier),
    "clip": ("CLIP-style", ClipClassifier),
}


class Measured(NamedTuple):
    """CPU seconds of a step, and their ratio to the plain Trainer's, of medians, with its 95 % interval."""

    seconds: float
    ratio: float
    low: float
    high: float


def trainers(kind: type[nn.Module], folder: str) -> dict[str, Trainer]:
    """The plain Trainer and those of all variants, each with a model of its own with the same weights."""

    def arguments(methods: Mapping[str, Any] | None) -> BalancedTrainingArguments:
        return BalancedTrainingArguments(
            output_dir=folder, use_cpu=True, optim="adamw_torch", disable_tqdm=True, modulations=methods or None
        )

    def model() -> nn.Module:
        torch.manual_seed(0)
        return kind()

    found = {"plain": prepared(Trainer(model(), arguments(None)))}
    for name, (methods, options) in VARIANTS.items():
        wrapped = balance(model(), kind.paths, num_labels=LABELS, **options)
        found[name] = prepared(MultimodalBalancedTrainer(wrapped, arguments(methods)))
    return found


def cpu_seconds(trainer: Trainer, batch: dict[str, Tensor]) -> float:
    """CPU seconds of this process for a step, the mean of STEPS."""
    started = time.process_time()
    for _ in range(STEPS):
        step(trainer, batch)
    return (time.process_time() - started) / STEPS


def measure(kind: type[nn.Module], rounds: int) -> dict[str, Measured]:
    """Every variant's ratio; the plain Trainer's is 1."""
    torch.manual_seed(0)
    batch = {**kind.batch(), "labels": torch.randint(LABELS, (16,))}
    with tempfile.TemporaryDirectory() as folder:
        found = trainers(kind, folder)
        order, times = list(found), {name: [] for name in found}
        for index in range(WARMUP + rounds):
            shift = index % len(order)
            for name in order[shift:] + order[:shift]:
                times[name].append(cpu_seconds(found[name], batch))
    seconds = {name: np.array(values[WARMUP:]) for name, values in times.items()}
    plain = seconds["plain"]
    return {
        name: Measured(float(np.median(values)), *ratio_of_medians(values, plain)) for name, values in seconds.items()
    }


def table(measured: Mapping[str, Mapping[str, Measured]]) -> str:
    """A row per variant, a column per model."""
    rows = [["plain Trainer", *(f"{found['plain'].seconds * 1e3:.1f} ms" for found in measured.values())]]
    for name in VARIANTS:
        rows.append([name, *("{:.2f} [{:.2f}, {:.2f}]".format(*found[name][1:]) for found in measured.values())])
    return markdown_table(["`balance()`", *(CASES[case][0] for case in measured)], rows)


def page(measured: Mapping[str, Mapping[str, Measured]], rounds: int, seconds: float, load: float) -> str:
    """The file that is written."""
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    return f"""# What a step in balance() costs

`python recipes/benchmarks/balance_cost.py` on {os.cpu_count()} CPU cores ({platform.machine()}), 1 thread; {versions};
{time.strftime("%Y-%m-%d")}; {seconds / 60:.0f} minutes of CPU time, load average {load:.1f} at the start, as other
processes used the machine, too.

CPU time of the process for a step, as a ratio to the plain Trainer with the same model: the ratio of the medians of
{rounds} alternating rounds of {STEPS} steps, after {WARMUP}, with a bootstrap 95 % interval. The optimizer's step
(AdamW) is part of it, evaluation is not. Batches of 16; random weights.

{table(measured)}

Behind the encoders, a step runs the model once with a gradient; a step that scores runs it once more for each
modality, without. In the first two models nearly all time is spent there, in the last one next to none; in the first
one `nn.TransformerEncoder` has a faster path for passes without a gradient. "no method" scores as OPM and OGM do: it
is what the logged scores and ratios cost.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    chosen = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    load, started = os.getloadavg()[0], time.process_time()
    measured = {name: measure(CASES[name][1], chosen.rounds) for name in chosen.cases}
    chosen.output.write_text(page(measured, chosen.rounds, time.process_time() - started, load), encoding="utf-8")
    print(table(measured))


if __name__ == "__main__":
    main()
