"""What the heads and architectures of all tasks return."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor


class Prediction(NamedTuple):
    """What a head makes of the features.

    Attributes:
        logits: `(batch, num_labels)`, or `(batch, segments, num_labels)`.
        branches: per modality its part of the joint representation `(batch, segments, dim)`, for losses that compare
            them; None without such parts.
    """

    logits: Tensor
    branches: dict[str, Tensor] | None = None


def answers_when_alone(logits: Tensor, own: Mapping[str, Tensor], keep_mask: Tensor) -> Tensor:
    """The joint logits, but those of the own classifier in samples of which one modality is left.

    Args:
        logits: `(batch, ..., num_labels)`.
        own: the same per modality, in the order of the mask.
        keep_mask: bool `(batch, modalities)`.

    Example:
        >>> own = {"audio": torch.tensor([[1.0], [2.0]]), "visual": torch.tensor([[3.0], [4.0]])}
        >>> answers_when_alone(torch.zeros(2, 1), own, torch.tensor([[True, True], [False, True]]))
        tensor([[0.],
                [4.]])
    """
    alone = keep_mask & (keep_mask.sum(1, keepdim=True) == 1)
    for theirs, chosen in zip(own.values(), alone.unbind(1), strict=True):
        logits = torch.where(chosen.view(-1, *[1] * (logits.dim() - 1)), theirs.to(logits.dtype), logits)
    return logits
