"""Evolutional dropout: units with a small second moment in the batch are dropped more often (Li et al. 2016).

A baseline of the paper (Sec. 4.3.4, Table 6), which gives no values. Every sample draws K units of the concatenated
feature with replacement, unit j with a probability p_j that follows the root of its second moment; a unit drawn n
times is multiplied by n / (K p_j), so the expectation stays.

Usage:      `modulations: {evolutional_dropout: {p: 0.5}}`
Values:     p 0.5, that is, half as many draws as units.
Relations:  place as of `dropout`. The moments are those of the micro-batch of one process, as BatchNorm's are; of a
            sequence, those over all its tokens, where padding, being zero, lowers all alike and so changes no p_j.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .base import Title
from .config import option
from .dropout import DropoutConfig, FeatureDropout
from .step import Step


@dataclass
class EvolutionalDropoutConfig(DropoutConfig):
    """Options of evolutional dropout.

    Args:
        p: every sample makes `(1 - p)` times as many draws as there are units, p in [0, 1).
    """

    p: float = option(0.5, "1 minus the number of draws per unit, in [0, 1).", "[0, 1)")


def sampling_probabilities(features: Tensor) -> Tensor:
    """`p_j = sqrt(mean_i x_ij^2) / sum_j' sqrt(mean_i x_ij'^2)`, `(dim,)`, in float32 or better, detached.

    Args:
        features: `(batch, dim)`. If all are zero, so are the probabilities; a row of zeros changes nothing.

    Example:
        >>> import torch
        >>> sampling_probabilities(torch.tensor([[3.0, 1.0], [4.0, 1.0]]))
        tensor([0.7795, 0.2205])
    """
    values = features.detach().to(torch.promote_types(features.dtype, torch.float32))
    moments = values.square().mean(0).sqrt()
    return moments / moments.sum().clamp_min(torch.finfo(moments.dtype).tiny)


def draw_counts(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """How often each sample draws each unit, by inversion of the cumulated probabilities: no host sync.

    Args:
        probabilities: `(dim,)`, summing to 1.
        uniform: draws from [0, 1), `(batch, draws)`.

    Returns:
        `(batch, dim)`, in the dtype of `probabilities`.
    """
    cumulated = probabilities.cumsum(0)
    points = uniform.to(cumulated.dtype) * cumulated[-1]
    units = torch.searchsorted(cumulated, points, right=True).clamp_max(len(cumulated) - 1)
    return torch.zeros(len(uniform), len(cumulated), dtype=cumulated.dtype, device=units.device).scatter_add_(
        1, units, torch.ones_like(points)
    )


def reweight(features: Tensor, probabilities: Tensor, counts: Tensor, draws: int) -> Tensor:
    """`x_ij n_ij / (K p_j)`; a unit that is zero in all samples stays zero.

    Args:
        features: x, `(batch, dim)`.
        probabilities: p, `(dim,)`.
        counts: n, `(batch, dim)`.
        draws: K.
    """
    factors = torch.where(probabilities > 0, counts / (draws * probabilities), 0.0)
    return features * factors.to(features.dtype)


class EvolutionalDropout(FeatureDropout):
    """Keeps the features' units by draws that follow their second moments.

    Logs `evolutional_dropout/drop_fraction` (share of the main process's units that were never drawn).
    """

    name = "evolutional_dropout"
    accumulation = "per_micro_batch"  # the second moments are those of a micro-batch
    config_class = EvolutionalDropoutConfig
    config: EvolutionalDropoutConfig
    titles: ClassVar = {"drop_fraction": Title("share of units never drawn", 0, 1)}

    def drop(self, joined: Tensor, step: Step) -> Tensor:
        rows = joined.flatten(0, -2)
        draws = max(1, round((1 - self.config.p) * rows.shape[1]))
        uniform = torch.rand(
            len(rows), draws, device=joined.device, generator=step.generator(self.name, joined.device)
        )
        with torch.no_grad():
            probabilities = sampling_probabilities(rows)
            counts = draw_counts(probabilities, uniform)
        self.means.add({"evolutional_dropout/drop_fraction": (counts == 0).float().mean()})
        return reweight(rows, probabilities, counts, draws).view_as(joined)
