"""Curriculum dropout: the drop probability rises from 0 to its final value over the training (Morerio et al. 2017).

A baseline of the paper (Sec. 4.3.4, Table 6), which gives no values.

Usage:      `modulations: {curriculum_dropout: {p: 0.5}}`
Values:     p 0.5; gamma 10 / (steps of the training), the original's rule of thumb (its code has 1e-3 on MNIST).
Relations:  `annealed_dropout` goes the other way. Place and scaling are those of `dropout`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from .base import BalanceState, check_range
from .dropout import Dropout, DropoutConfig


@dataclass
class CurriculumDropoutConfig(DropoutConfig):
    """Options of curriculum dropout.

    Args:
        p: drop probability that is approached, in [0, 1).
        gamma: how fast, per optimizer step, > 0; None for 10 / (optimizer steps of the training).
    """

    gamma: float | None = field(
        default=None, metadata={"help": "How fast p is approached, per optimizer step; null: 10 / (all steps)."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gamma is not None:
            check_range("gamma", self.gamma, low=0, low_open=True)


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


class CurriculumDropout(Dropout):
    """Dropout whose probability rises from 0. Logs `curriculum_dropout/probability`."""

    name = "curriculum_dropout"
    config_class = CurriculumDropoutConfig
    config: CurriculumDropoutConfig

    def probability(self, state: BalanceState) -> float:
        gamma = 10 / state.max_steps if self.config.gamma is None else self.config.gamma
        return curriculum_probability(state.step, gamma, self.config.p)
