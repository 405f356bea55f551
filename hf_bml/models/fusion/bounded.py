"""One vote of bounded length per modality."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ...ground.task import at_least_float32
from ..options import HeadOptions
from .sum import SumHead


def bounded_votes(logits: Tensor, bound: float) -> Tensor:
    """`tau z / (||z||_2 + 1)` over the last axis: the direction of `z`, with a length in [0, tau).

    Args:
        logits: z, `(..., num_labels)`.
        bound: tau, > 0.

    Returns:
        as `logits`, in float32 or better, under autocast too; zeros for zeros, where the gradient is tau times one.

    Example:
        >>> import torch
        >>> bounded_votes(torch.tensor([3.0, 4.0]), 6.0)
        tensor([3., 4.])
    """
    with torch.autocast(logits.device.type, enabled=False):
        z = at_least_float32(logits)
        return bound * z / (torch.linalg.vector_norm(z, dim=-1, keepdim=True) + 1)


class BoundedHead(SumHead):
    """Adds one vote per modality, none of which can shout: `bounded_votes` of a classifier without bias, and one bias.

    However large a noisy feature gets, it moves the joint logits by less than `logit_bound`; a modality that is absent
    or dropped casts no vote. Hidden layers have no bias either. The nearest published head is MMCosine (Xu et al.
    2023), which normalises features and weights.
    """

    parts_have_bias = False

    def __init__(self, sizes: Mapping[str, int], config: HeadOptions):
        super().__init__(sizes, config)
        self.bound = config.logit_bound
        self.bias = nn.Parameter(torch.zeros(config.num_labels))

    def _parts(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Each modality's vote and its share of the bias, `b / M`."""
        share = self.bias / len(self.sizes)
        return {m: bounded_votes(z, self.bound) + share for m, z in super()._parts(features).items()}
