"""One modality points at positions of another (Tian et al., ECCV 2018), segment by segment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...ground.suggestion import did_you_mean


def guide_and_guided(options: Any, modalities: Sequence[str]) -> tuple[str, str]:
    """Who points and who is pointed at; by default the first two modalities, or the first of those that are left.

    Args:
        options: with `guide` and `guided`, names or None.
        modalities: in the model's order.

    Raises:
        ValueError: fewer than two modalities, an unknown name, or the same one twice.
    """
    if len(modalities) < 2:
        raise ValueError(f"one modality guides another, so there must be two or more, found {list(modalities)}.")
    for role in ("guide", "guided"):
        name = vars(options)[role]
        if name is not None and name not in modalities:
            hint = did_you_mean(name, modalities)
            raise ValueError(f"{role} must be one of the modalities {list(modalities)}, found {name!r}.{hint}")
    guide = options.guide or next(name for name in modalities if name != options.guided)
    guided = options.guided or next(name for name in modalities if name != guide)
    if guide == guided:
        raise ValueError(f"guide and guided must be two modalities, found {guide!r} for both.")
    return guide, guided


def where_present(values: Tensor, present: Tensor | None) -> Tensor:
    """`values (batch, ...)` with zeros for the samples that are not `present (batch,)`."""
    return values if present is None else torch.where(present.view(-1, *[1] * (values.dim() - 1)), values, 0.0)


class GuidedAttention(nn.Module):
    """`softmax(w^T tanh(W_v ReLU(A x) + W_g g 1^T))` over the positions of a segment, and the mean of x under it.

    As published, W_g gives a number per position, which all hidden units get, and W_v has as many units as there are
    positions. Without weights the softmax is even, and the result is the mean of the positions.

    Args:
        size: of a position's feature x.
        hidden_size: of A x and of the guidance g.
        positions: how many there are.
    """

    def __init__(self, size: int, hidden_size: int, positions: int):
        super().__init__()
        self.num_positions = positions
        self.project = nn.Linear(size, hidden_size)
        self.from_position = nn.Linear(hidden_size, positions, bias=False)
        self.from_guide = nn.Linear(hidden_size, positions, bias=False)
        self.weigh = nn.Linear(positions, 1, bias=False)

    def forward(self, values: Tensor, guidance: Tensor | None) -> Tensor:
        """
        Args:
            values: x, `(batch, segments, positions, size)`.
            guidance: g, `(batch, segments, hidden_size)`, zero where there is none; None if there nowhere is.

        Returns:
            `(batch, segments, size)`.
        """
        return (self.weights(values, guidance).unsqueeze(-1) * values).sum(2)

    def weights(self, values: Tensor, guidance: Tensor | None) -> Tensor:
        """How much each position counts, `(batch, segments, positions)`, summing to 1; arguments as of `forward`."""
        if values.shape[2] != self.num_positions:
            raise ValueError(
                f"expected {self.num_positions} positions per segment, found {values.shape[2]}. Set "
                f"architecture_options: {{positions: {values.shape[2]}}}, or keep the positions of the features "
                "(AVE: dataset_options: {regions: true})."
            )
        hidden = self.from_position(torch.relu(self.project(values)))
        if guidance is not None:
            hidden = hidden + self.from_guide(guidance).unsqueeze(-1)
        return self.weigh(torch.tanh(hidden)).squeeze(-1).softmax(-1)
