"""A tiny CNN per modality and images for it: what every modulation and interaction can work on."""

import datasets
import torch
from torch import nn

from hf_bml import MultimodalConfig, MultimodalForClassification

MODALITIES = ("audio", "visual", "text")


def tiny_image_model(modalities=("audio", "visual"), seed=0, num_labels=3, **options) -> MultimodalForClassification:
    """Three stages of four channels for images of 8 x 8."""
    torch.manual_seed(seed)
    encoder = {"type": "conv", "in_channels": 1, "channels": [4, 4, 4]}
    config = MultimodalConfig(
        modalities={name: dict(encoder) for name in modalities}, num_labels=num_labels, **options
    )
    return MultimodalForClassification(config)


def without_batch_norm(model: MultimodalForClassification) -> MultimodalForClassification:
    """In float64 and without batch statistics, so that batches of any size give equal updates."""
    for encoder in model.encoders.values():
        for layer in encoder.layers:
            if isinstance(layer, nn.Sequential):
                layer[1] = nn.Identity()
    return model.double()


def tiny_image_dataset(
    modalities=("audio", "visual"), samples=48, num_labels=3, seed=0, dtype=torch.float32
) -> datasets.Dataset:
    """Noise and a class-dependent pattern, strongest in the first modality."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, num_labels, (samples,), generator=generator)
    columns = {}
    for index, name in enumerate(modalities):
        patterns = torch.randn(num_labels, 1, 8, 8, generator=generator) * (3.0 if index == 0 else 1.0)
        columns[name] = (torch.randn(samples, 1, 8, 8, generator=generator) + patterns[labels]).to(dtype).numpy()
    return datasets.Dataset.from_dict({**columns, "labels": labels.numpy()}).with_format("torch", dtype=None)
