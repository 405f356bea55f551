"""Tiny models that label segments, and clips of four segments for them."""

from __future__ import annotations

import datasets
import torch

from hf_bml import MultimodalForSegmentClassification, SegmentClassificationConfig
from hf_bml.models import SEGMENT_ARCHITECTURES

SEGMENTS, POSITIONS, LABELS = 4, 3, 3  # two events and the background
SIZES = {"audio": 5, "visual": 6, "text": 4}
OPTIONS = {
    "avga": {"positions": POSITIONS, "attention_size": 7, "hidden_size": 8, "classifier_size": 10},
    "avsdn": {"hidden_size": 16},
    "psp": {
        "positions": POSITIONS,
        "attention_size": 7,
        "projection_size": 9,
        "hidden_size": 8,
        "classifier_size": 10,
        "threshold": 0.2,
    },
}
ARCHITECTURES = sorted(SEGMENT_ARCHITECTURES)


def tiny_segment_config(architecture, modalities=("audio", "visual"), options=None, **config):
    return SegmentClassificationConfig(
        modalities={name: {"type": "features", "input_size": SIZES[name]} for name in modalities},
        architecture=architecture,
        architecture_options={**OPTIONS[architecture], **(options or {})},
        num_labels=LABELS,
        **config,
    )


def tiny_segment_model(architecture, modalities=("audio", "visual"), seed=0, **config):
    torch.manual_seed(seed)
    return MultimodalForSegmentClassification(tiny_segment_config(architecture, modalities, **config))


def tiny_segments(samples=16, modalities=("audio", "visual"), seed=0, dtype=torch.float32, noise=1.0):
    """Clips with one event each, at a random place; strong in the sound, and visible in one of the positions.

    Returns:
        per modality `(samples, segments, dim)`, the visual one `(samples, segments, positions, dim)`; and labels.
    """
    generator = torch.Generator().manual_seed(seed)
    event = torch.randint(LABELS - 1, (samples, 1), generator=generator)
    start = torch.randint(SEGMENTS - 1, (samples, 1), generator=generator)
    length = torch.randint(1, SEGMENTS + 1, (samples, 1), generator=generator)
    second = torch.arange(SEGMENTS)
    labels = torch.where((second >= start) & (second < start + length), event, LABELS - 1)
    inputs = {}
    for name in modalities:
        signal = torch.nn.functional.one_hot(labels, SIZES[name]) * (3.0 if name == "audio" else 1.0)
        if name == "visual":
            place = torch.randint(POSITIONS, (samples, SEGMENTS, 1), generator=generator)
            signal = signal.unsqueeze(2) * (place == torch.arange(POSITIONS)).unsqueeze(-1) * 2
        inputs[name] = (signal + noise * torch.randn(signal.shape, generator=generator)).to(dtype)
    return inputs, labels


def tiny_segment_dataset(samples=48, modalities=("audio", "visual"), **options) -> datasets.Dataset:
    inputs, labels = tiny_segments(samples, modalities, **options)
    columns = {name: values.numpy() for name, values in inputs.items()}
    return datasets.Dataset.from_dict({**columns, "labels": labels.numpy()}).with_format("torch", dtype=None)
