"""How far two predictions are apart."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..ground.task import at_least_float32


def jensen_shannon(first: Tensor, second: Tensor, swapped: bool = False) -> Tensor:
    """The Jensen-Shannon divergence of softmax predictions p and q with the mean m, in nats, in [0, ln 2].

        (KL(p || m) + KL(q || m)) / 2

    Args:
        first: logits of p, `(..., classes)`.
        second: logits of q, the same.
        swapped: `(KL(m || p) + KL(m || q)) / 2` instead, which has no upper bound.

    Returns:
        `(...)`, float32 or better, with a graph.

    Example:
        >>> import torch
        >>> jensen_shannon(torch.tensor([[0.9, 0.1]]).log(), torch.tensor([[0.6, 0.4]]).log())
        tensor([0.0633])
    """
    p, q = at_least_float32(first).log_softmax(-1), at_least_float32(second).log_softmax(-1)
    m = torch.logaddexp(p, q) - math.log(2)
    each = m.exp() * (2 * m - p - q) if swapped else p.exp() * (p - m) + q.exp() * (q - m)
    return each.sum(-1) / 2
