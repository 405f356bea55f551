"""Parts of a user's own, found by their path `own_parts:Name`: a data set, a transform, an encoder, a fusion."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from datasets import Dataset, DatasetDict
from torch import nn

from hf_bml.models import Encoder, FusionHead
from hf_bml.processing import Transform


def load(rows: int = 8) -> DatasetDict:
    """Two classes, told apart by the loudness of a wave and by a vector."""

    def split(seed: int) -> Dataset:
        generator = torch.Generator().manual_seed(seed)
        labels = [row % 2 for row in range(rows)]
        waves = [(torch.randn(16, generator=generator) * (1 + 9 * label)).tolist() for label in labels]
        vectors = [(torch.randn(3, generator=generator) + label).tolist() for label in labels]
        return Dataset.from_dict({"sound": waves, "sight": vectors, "labels": labels})

    return DatasetDict({name: split(seed) for seed, name in enumerate(("train", "validation", "test"))})


class Level(Transform):
    """A waveform (samples,) -> the level in decibels of each of its quarters, (4, 1)."""

    def __init__(self, floor: float = -80.0):
        self.floor = floor

    @property
    def sizes(self):
        return {"input_size": 1}

    def __call__(self, values, training=False):
        return [self.level(torch.tensor(value)) for value in values]

    def level(self, wave):
        return 20 * wave.view(4, -1).square().mean(1, keepdim=True).sqrt().log10().clamp(min=self.floor)


@dataclass
class PooledConfig:
    input_size: int
    hidden_size: int = 4

    def __post_init__(self):
        if self.hidden_size < 1:
            raise ValueError(f"hidden_size must be at least 1, found {self.hidden_size}.")


class Pooled(Encoder):
    """The largest of a sequence's projections."""

    config_class = PooledConfig

    def __init__(self, config):
        super().__init__()
        self.output_size = self.token_size = config.hidden_size
        self.layer = nn.Linear(config.input_size, config.hidden_size)

    def forward(self, values, mask=None):
        return self.layer(values).amax(1)


class Largest(FusionHead):
    """A classifier of the largest entry that any modality has in each place; all features are of one size."""

    joins_several = True

    def __init__(self, sizes, config):
        super().__init__(sizes, config)
        self.classifier = nn.Linear(next(iter(sizes.values())), config.num_labels)

    def forward(self, features):
        return self.classifier(torch.stack(list(features.values())).amax(0))


class NotAPart:
    """Of no kind that a model or processor has."""
