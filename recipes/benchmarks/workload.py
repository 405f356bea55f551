"""Models, batches and trainers that the benchmarks of this folder measure."""

from __future__ import annotations

import copy
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import Trainer

from hf_bml import BalancedTrainingArguments, MultimodalConfig, MultimodalForClassification

GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")


@dataclass
class Case:
    """A model with a batch.

    Attributes:
        title: of its table.
        config: of the model.
        batch: tensors on the device.
        steps: measured steps of each variant.
        bf16: whether autocast is on.
        threads: CPU threads; operations too small for two would only wait for each other.
    """

    title: str
    config: MultimodalConfig
    batch: dict[str, Any]
    steps: int
    bf16: bool = False
    threads: int = torch.get_num_threads()


def crema_d(batch: int, steps: int, bf16: bool = False) -> Case:
    """Two ResNet-18 at the paper's CREMA-D shapes: spectrogram 257x299, one RGB frame 224x224, six classes."""
    config = MultimodalConfig(
        modalities={
            "audio": {"type": "timm", "architecture": "resnet18", "in_channels": 1},
            "visual": {"type": "timm", "architecture": "resnet18", "in_channels": 3},
        },
        num_labels=6,
    )
    inputs = {
        "audio": torch.randn(batch, 1, 257, 299, device=DEVICE),
        "visual": torch.randn(batch, 3, 224, 224, device=DEVICE),
        "labels": torch.randint(0, 6, (batch,), device=DEVICE),
    }
    return Case(f"ResNet-18 x 2, CREMA-D shapes, batch {batch}{', bf16' if bf16 else ''}", config, inputs, steps, bf16)


def tiny(steps: int) -> Case:
    """Two linear encoders at batch 64: the fixed cost of a step."""
    encoder = {"type": "sequence", "input_size": 16, "hidden_size": 16, "num_heads": 1, "num_layers": 0}
    config = MultimodalConfig(modalities={"audio": encoder, "visual": encoder}, num_labels=10)
    inputs = {name: torch.randn(64, 16, device=DEVICE) for name in config.modalities}
    inputs["labels"] = torch.randint(0, 10, (64,), device=DEVICE)
    return Case("tiny pair, batch 64", config, inputs, steps, threads=1)


def vit_bert(batch: int, steps: int) -> Case:
    """ViT-B/16 on images and a four-layer BERT on 64 tokens, about 120 million parameters."""
    config = MultimodalConfig(
        modalities={
            "visual": {"type": "timm", "architecture": "vit_base_patch16_224"},
            "text": {"type": "transformers", "config": {"model_type": "bert", "num_hidden_layers": 4}},
        },
        num_labels=100,
    )
    ids = torch.randint(1, 30000, (batch, 64), device=DEVICE)
    inputs = {
        "visual": torch.randn(batch, 3, 224, 224, device=DEVICE),
        "text": {"input_ids": ids, "attention_mask": torch.ones_like(ids)},
        "labels": torch.randint(0, 100, (batch,), device=DEVICE),
    }
    return Case(f"ViT-B + BERT-4, batch {batch}, bf16", config, inputs, steps, bf16=True)


def build(
    case: Case,
    trainer_class: type[Trainer],
    folder: str,
    modulations: dict[str, Any] | None = None,
    torch_compile: bool = False,
    arguments: Mapping[str, Any] | None = None,
    **options: Any,
) -> Trainer:
    """A trainer ready to take optimizer steps, with its own copy of the case's model; `arguments` are further training
    arguments, `options` go to the trainer."""
    args = BalancedTrainingArguments(
        output_dir=folder,
        use_cpu=not GPU,
        bf16=case.bf16,
        torch_compile=torch_compile,
        optim="sgd",
        optim_args="momentum=0.9",
        learning_rate=1e-3,
        max_grad_norm=0,
        disable_tqdm=True,
        modulations=modulations,
        **(arguments or {}),
    )
    torch.manual_seed(0)
    return prepared(trainer_class(MultimodalForClassification(copy.deepcopy(case.config)), args, **options))


def prepared(trainer: Trainer) -> Trainer:
    """The trainer, ready to take optimizer steps."""
    trainer.create_optimizer()
    trainer.model, trainer.optimizer = trainer.accelerator.prepare(trainer.model, trainer.optimizer)
    trainer.model_wrapped = trainer.model
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    trainer.state.max_steps = 10**6
    return trainer


def step(trainer: Trainer, batch: dict[str, Any]) -> None:
    """One optimizer step, as the Trainer's loop takes it."""
    trainer.training_step(trainer.model, dict(batch))
    trainer.optimizer.step()
    trainer.optimizer.zero_grad()
    trainer.state.global_step += 1


def synchronize() -> None:
    if GPU:
        torch.cuda.synchronize()


def timed(function: Callable[[], Any]) -> float:
    """Seconds that a call takes."""
    synchronize()
    started = time.perf_counter()
    function()
    synchronize()
    return time.perf_counter() - started


def machine() -> str:
    """One line that says what the numbers were measured on."""
    device = torch.cuda.get_device_name() if GPU else f"CPU ({platform.machine()}), {torch.get_num_threads()} threads"
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    return f"{device}; {versions}; {time.strftime('%Y-%m-%d')}."
