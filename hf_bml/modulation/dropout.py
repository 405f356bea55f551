"""Dropout on the features: zero each unit with a probability, scale the rest up (Srivastava et al. 2014).

A baseline of the paper (Sec. 4.3.4, Table 6), which says neither where nor how often units are dropped; here it acts
on the concatenated feature, before the fusion head. It fights co-adaptation of units and knows nothing of modalities.
Sequences, of words or of segments, are not concatenated: they have their units dropped modality by modality.

Usage:      `modulations: {dropout: {p: 0.5}}`; `annealed_dropout`, whose probability falls linearly to 0 (Rennie et
            al. 2014); `curriculum_dropout`, whose probability rises from 0 (Morerio et al. 2017)
Values:     the paper gives none. p 0.5; annealed over the whole training; gamma 10 / (steps of the training), the
            curriculum's rule of thumb (its code has 1e-3 on MNIST).
Relations:  `evolutional_dropout` drops weak units more often; `mod_drop` drops whole modalities. A model's own
            `head_dropout` acts in the same place, and before every further layer of the head.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .base import Modulation, Title
from .config import ModulationConfig, check_count, option
from .step import MicroBatch, Step


@dataclass
class DropoutConfig(ModulationConfig):
    """Options of dropout.

    Args:
        p: probability that a unit is dropped, in [0, 1).
    """

    p: float = option(0.5, "Probability that a unit of a feature is dropped, in [0, 1).", "[0, 1)")


@dataclass
class AnnealedDropoutConfig(DropoutConfig):
    """Options of annealed dropout.

    Args:
        p: drop probability at the first step, in [0, 1).
        annealing_steps: optimizer steps until it is 0; None for the whole training.
    """

    annealing_steps: int | None = option(
        None, "Optimizer steps until the probability is 0; null: the whole training.", check_count
    )


@dataclass
class CurriculumDropoutConfig(DropoutConfig):
    """Options of curriculum dropout.

    Args:
        p: drop probability that is approached, in [0, 1).
        gamma: how fast, per optimizer step, > 0; None for 10 / (optimizer steps of the training).
    """

    gamma: float | None = option(
        None, "How fast p is approached, per optimizer step; null: 10 / (all steps).", "(0, inf)"
    )


def inverted_dropout(features: Tensor, p: float, uniform: Tensor) -> Tensor:
    """`x / (1 - p)` where the draw is at least p, else 0: the expectation stays.

    Args:
        features: any shape.
        p: in [0, 1).
        uniform: draws from [0, 1), shaped as `features`.
    """
    return torch.where(uniform >= p, features / (1 - p), 0.0)


def annealed_probability(step: int, steps: int, p: float) -> float:
    """`p_t = max(0, 1 - t / N) p_0`.

    Args:
        step: t, optimizer steps already taken.
        steps: N, > 0.
        p: p_0.

    Example:
        >>> [annealed_probability(step, 100, 0.5) for step in (0, 25, 50, 100, 200)]
        [0.5, 0.375, 0.25, 0.0, 0.0]
    """
    return max(0.0, 1 - step / steps) * p


def curriculum_probability(step: int, gamma: float, p: float) -> float:
    """`p_t = p (1 - exp(-gamma t))`; the original gives its complement, `(1 - r) exp(-gamma t) + r` with `r = 1 - p`.

    Args:
        step: t, optimizer steps already taken.
        gamma: > 0.
        p: the limit.

    Example:
        >>> [round(1 - curriculum_probability(step, 10 / 1000, 0.5), 6) for step in (0, 100, 500, 1000)]
        [1.0, 0.68394, 0.503369, 0.500023]
    """
    return p * (1 - math.exp(-gamma * step))


class FeatureDropout(Modulation):
    """Base class for dropping units of the concatenated feature, or of each modality's sequence."""

    phase = "features"

    def drop(self, joined: Tensor, step: Step) -> Tensor:
        """The concatenated feature `(batch, sum of dims)`, or a modality's sequence `(batch, length, dim)`, zero where
        padded, with units dropped."""
        raise NotImplementedError(f"{type(self).__name__} is abstract: override `drop`.")

    def modulate_features(
        self, features: dict[str, Tensor], batch: MicroBatch, keep_mask: Tensor | None, step: Step
    ) -> dict[str, Tensor]:
        if any(feature.dim() > 2 for feature in features.values()):
            # Tokens of two modalities have no rows in common, even where a batch happens to have as many of both.
            return {name: self.drop(feature, step) for name, feature in features.items()}
        sizes = [feature.shape[-1] for feature in features.values()]
        dropped = self.drop(torch.cat(list(features.values()), dim=-1), step)
        return dict(zip(features, dropped.split(sizes, dim=-1), strict=True))


class Dropout(FeatureDropout):
    """Inverted dropout of the features' units. Logs `dropout/probability`."""

    name = "dropout"
    config_class = DropoutConfig
    config: DropoutConfig
    titles: ClassVar = {"probability": Title("dropout probability", 0, 1)}

    def probability(self, step: Step) -> float:
        """The drop probability at an optimizer step."""
        return self.config.p

    def drop(self, joined: Tensor, step: Step) -> Tensor:
        p = self.probability(step)
        self.means.add({f"{self.name}/probability": torch.full((), p, device=joined.device)})
        uniform = torch.rand(joined.shape, device=joined.device, generator=step.generator(self.name, joined.device))
        return inverted_dropout(joined, p, uniform)


class AnnealedDropout(Dropout):
    """Dropout whose probability falls linearly to 0. Logs `annealed_dropout/probability`."""

    name = "annealed_dropout"
    config_class = AnnealedDropoutConfig
    config: AnnealedDropoutConfig

    def probability(self, step: Step) -> float:
        return annealed_probability(step.step, self.config.annealing_steps or step.max_steps, self.config.p)


class CurriculumDropout(Dropout):
    """Dropout whose probability rises from 0. Logs `curriculum_dropout/probability`."""

    name = "curriculum_dropout"
    config_class = CurriculumDropoutConfig
    config: CurriculumDropoutConfig

    def probability(self, step: Step) -> float:
        gamma = 10 / step.max_steps if self.config.gamma is None else self.config.gamma
        return curriculum_probability(step.step, gamma, self.config.p)
