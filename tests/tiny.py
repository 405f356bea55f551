"""Tiny models, data and the hand-computed case that many tests share."""

import math

import datasets
import torch

from hf_bml import MultimodalConfig, MultimodalForClassification

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


def hand_computed_case():
    """T-A1: two modalities, W^1 = diag(ln 9, ln 4), W^2 = diag(ln 1.5, 0), identity features, labels (0, 1)."""
    logits = {
        "audio": torch.diag(torch.tensor([math.log(9), math.log(4)])),
        "visual": torch.diag(torch.tensor([math.log(1.5), 0.0])),
    }
    return logits, torch.tensor([0, 1])
