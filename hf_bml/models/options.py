"""What a head may read of a model's configuration, which itself imports the heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol


class HeadOptions(Protocol):
    """The options of a fusion head; [`MultimodalConfig`] has them and says what they mean."""

    num_labels: int
    fusion: str
    conditioning: str | None
    head_hidden_sizes: Sequence[int]
    head_dropout: float
    bias_split: Mapping[str, float] | None
