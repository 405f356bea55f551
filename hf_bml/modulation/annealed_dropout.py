"""Annealed dropout: the drop probability falls linearly to 0 over the training (Rennie et al. 2014).

A baseline of the paper (Sec. 4.3.4, Table 6), which gives no values.

Usage:      `modulations: {annealed_dropout: {p: 0.5}}`
Values:     p 0.5 at the start, 0 at the end of the training.
Relations:  `curriculum_dropout` goes the other way. Place and scaling are those of `dropout`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .base import BalanceState, check_count
from .dropout import Dropout, DropoutConfig


@dataclass
class AnnealedDropoutConfig(DropoutConfig):
    """Options of annealed dropout.

    Args:
        p: drop probability at the first step, in [0, 1).
        annealing_steps: optimizer steps until it is 0; None for the whole training.
    """

    annealing_steps: int | None = field(
        default=None, metadata={"help": "Optimizer steps until the probability is 0; null: the whole training."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.annealing_steps is not None:
            check_count("annealing_steps", self.annealing_steps)


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


class AnnealedDropout(Dropout):
    """Dropout whose probability falls linearly to 0. Logs `annealed_dropout/probability`."""

    name = "annealed_dropout"
    config_class = AnnealedDropoutConfig
    config: AnnealedDropoutConfig

    def probability(self, state: BalanceState) -> float:
        steps = self.config.annealing_steps or state.max_steps
        return annealed_probability(state.step, steps, self.config.p)
