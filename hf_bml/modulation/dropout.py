"""Dropout on the features: zero each unit with a fixed probability, scale the rest up (Srivastava et al. 2014).

A baseline of the paper (Sec. 4.3.4, Table 6), which says neither where nor how often units are dropped; here it acts
on the concatenated feature, before the fusion head. It fights co-adaptation of units and knows nothing of modalities.
Sequences, of words or of segments, are not concatenated: they have their units dropped modality by modality.

Usage:      `modulations: {dropout: {p: 0.5}}`
Values:     p 0.5.
Relations:  `annealed_dropout` and `curriculum_dropout` let p change over the training; `evolutional_dropout` drops
            weak units more often; `mod_drop` drops whole modalities. A model's own `head_dropout` acts in the same
            place, and before every further layer of the head.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from .base import BalanceState, MicroBatch, Modulation, ModulationConfig, check_range


@dataclass
class DropoutConfig(ModulationConfig):
    """Options of dropout.

    Args:
        p: probability that a unit is dropped, in [0, 1).
    """

    p: float = field(default=0.5, metadata={"help": "Probability that a unit of a feature is dropped, in [0, 1)."})

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("p", self.p, low=0, high=1, high_open=True)


def inverted_dropout(features: Tensor, p: float, uniform: Tensor) -> Tensor:
    """`x / (1 - p)` where the draw is at least p, else 0: the expectation stays.

    Args:
        features: any shape.
        p: in [0, 1).
        uniform: draws from [0, 1), shaped as `features`.
    """
    return torch.where(uniform >= p, features / (1 - p), 0.0)


class FeatureDropout(Modulation):
    """Base class of what drops units of the concatenated feature, or of each modality's sequence."""

    def drop(self, joined: Tensor) -> Tensor:
        """The concatenated feature `(batch, sum of dims)`, or a modality's sequence `(batch, length, dim)`, zero where
        padded, with units dropped."""
        raise NotImplementedError(f"{type(self).__name__} is abstract: override `drop`.")

    def modulate_features(
        self, features: dict[str, Tensor], batch: MicroBatch, keep_mask: Tensor | None
    ) -> dict[str, Tensor]:
        if any(feature.dim() > 2 for feature in features.values()):
            # Tokens of two modalities have no rows in common, even where a batch happens to have as many of both.
            return {name: self.drop(feature) for name, feature in features.items()}
        sizes = [feature.shape[-1] for feature in features.values()]
        dropped = self.drop(torch.cat(list(features.values()), dim=-1))
        return dict(zip(features, dropped.split(sizes, dim=-1), strict=True))


class Dropout(FeatureDropout):
    """Inverted dropout of the features' units. Logs `dropout/probability`."""

    name = "dropout"
    config_class = DropoutConfig
    config: DropoutConfig

    def probability(self, state: BalanceState) -> float:
        """The drop probability at an optimizer step."""
        return self.config.p

    def drop(self, joined: Tensor) -> Tensor:
        p = self.probability(self._state)
        self.means.add({f"{self.name}/probability": torch.full((), p, device=joined.device)})
        uniform = torch.rand(joined.shape, device=joined.device, generator=self.step_generator(joined.device))
        return inverted_dropout(joined, p, uniform)
