"""Tiny models and data shared by the tests; everything runs on the CPU and without a network."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import datasets
import pytest
import torch

from hf_bml import BalancedTrainingArguments, MultimodalConfig, MultimodalForClassification

torch.set_num_threads(1)
datasets.disable_progress_bars()

SIZES = {"audio": 5, "visual": 7, "text": 3}


def tiny_config(modalities=("audio", "visual"), num_labels=3, **options) -> MultimodalConfig:
    """Linear projections of vectors: no dropout, no BatchNorm, so batches of any size give equal updates."""
    return MultimodalConfig(
        modalities={
            name: {"type": "sequence", "input_size": SIZES[name], "hidden_size": 4, "num_heads": 1, "num_layers": 0}
            for name in modalities
        },
        num_labels=num_labels,
        **options,
    )


def tiny_model(modalities=("audio", "visual"), seed=0, dtype=torch.float32, **options) -> MultimodalForClassification:
    torch.manual_seed(seed)
    return MultimodalForClassification(tiny_config(modalities, **options)).to(dtype)


def tiny_dataset(modalities=("audio", "visual"), samples=32, num_labels=3, seed=0, dtype=torch.float32):
    """Class-dependent vectors, the first modality far more discriminative than the others."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, num_labels, (samples,), generator=generator)
    columns = {}
    for index, name in enumerate(modalities):
        strength = 3.0 if index == 0 else 0.5
        onehot = torch.nn.functional.one_hot(labels, SIZES[name]) * strength
        columns[name] = (torch.randn(samples, SIZES[name], generator=generator) + onehot).to(dtype).numpy()
    dataset = datasets.Dataset.from_dict({**columns, "labels": labels.numpy()})
    return dataset.with_format("torch", dtype=None)


@pytest.fixture
def training_args(tmp_path):
    """Makes arguments for a short, quiet CPU run with SGD."""

    def make(**options) -> BalancedTrainingArguments:
        defaults = {
            "output_dir": str(tmp_path / "run"),
            "use_cpu": True,
            "optim": "sgd",
            "optim_args": "momentum=0.9",
            "learning_rate": 0.1,
            "lr_scheduler_type": "constant",
            "per_device_train_batch_size": 8,
            "max_steps": 8,
            "logging_steps": 2,
            "save_strategy": "no",
            "disable_tqdm": True,
        }
        return BalancedTrainingArguments(**{**defaults, **options})

    return make
