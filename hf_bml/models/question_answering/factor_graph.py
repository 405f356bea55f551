"""Factor graph attention: what a position of one sequence is worth in the light of all sequences.

Schwartz et al. 2019, "Factor graph attention": every position p of every sequence ("utility") gets potentials, from
itself (unary), from its own sequence (self) and from every other one (pairwise); their learned mix, through a softmax
over p, weighs the sequence's values.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...ground.task import at_least_float32
from ..encoders.sequences import masked_mean


def pairwise_potentials(queries: Tensor, keys: Tensor, seen: Tensor) -> Tensor:
    """How similar each query is to the keys, on average: the similarity matrix with the keys marginalised by the mean.

    Args:
        queries: `(batch, length, dim)`.
        keys: `(batch, other length, dim)`.
        seen: bool `(batch, other length)`, the keys that count; without any, the potential is 0.

    Returns:
        `(batch, length)`, means of cosine similarities, in [-1, 1], in the dtype of `queries`.

    Example:
        >>> keys = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
        >>> pairwise_potentials(torch.tensor([[[2.0, 0.0], [3.0, 4.0]]]), keys, torch.tensor([[True, True]]))
        tensor([[0.5000, 0.7000]])
    """
    # In float16 the smallest length that `normalize` divides by is 0, and masked zeros would become NaN.
    dtype = queries.dtype
    queries, keys = (nn.functional.normalize(at_least_float32(values), dim=-1) for values in (queries, keys))
    mean_key = masked_mean(keys, seen)  # the mean commutes with the scalar product
    return (queries @ mean_key.unsqueeze(-1)).squeeze(-1).to(dtype)


def attended(values: Tensor, potentials: Tensor, seen: Tensor) -> Tensor:
    """Values weighed by the softmax of their potentials over the seen positions; zero if there are none.

    Args:
        values: `(batch, length, dim)`.
        potentials: `(batch, length)`. Equal ones give the mean.
        seen: bool `(batch, length)`.

    Returns:
        `(batch, dim)`.
    """
    nothing = ~seen.any(1, keepdim=True)
    # Without any position the softmax would be NaN, and so would be its gradient.
    weights = at_least_float32(potentials).masked_fill(~seen & ~nothing, float("-inf")).softmax(1)
    weights = torch.where(nothing, 0.0, weights).to(values.dtype)
    return (weights.unsqueeze(1) @ values).squeeze(1)


class Unary(nn.Module):
    """The potential of a position by itself: `(batch, length, dim)` to `(batch, length)`."""

    def __init__(self, size: int, dropout: float):
        super().__init__()
        self.embed = nn.Linear(size, size)
        self.dropout = nn.Dropout(dropout)
        self.reduce = nn.Linear(size, 1)

    def forward(self, values: Tensor) -> Tensor:
        return self.reduce(self.dropout(torch.relu(self.embed(values)))).squeeze(-1)


class Pair(nn.Module):
    """The two projections of a pair of sequences that tell how similar their positions are."""

    def __init__(self, size: int):
        super().__init__()
        self.first, self.second = nn.Linear(size, size), nn.Linear(size, size)


class Mix(nn.Module):
    """A weight per potential, without a bias, which the softmax would not see; at first they are added up."""

    def __init__(self, count: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(count))

    def forward(self, potentials: list[Tensor]) -> Tensor:
        """`count` tensors `(batch, length)` to one."""
        return (torch.stack(potentials, dim=-1) * self.weight).sum(-1)
