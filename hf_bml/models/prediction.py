"""What the heads and architectures of all tasks return."""

from __future__ import annotations

from typing import NamedTuple

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
