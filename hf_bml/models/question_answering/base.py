"""The face of a question answering architecture: tokens of every modality in, logits out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from ..encoders.sequences import Tokens


class Architecture(nn.Module):
    """What follows the modalities' own encoders; its parameters belong to no modality.

    Tokens with a mask of False, padding or those of a modality that a sample lacks or has dropped, contribute
    nothing. At least one modality of every sample has tokens.

    Args:
        sizes: token size per modality; the question first, then the others in modality order.
        num_labels: number of answers.
        options: an `options_class`.

    Attributes:
        provenance: which published work it follows, and what differs from that; for model cards.
    """

    options_class: ClassVar[type]
    provenance: ClassVar[str]

    def __init__(self, sizes: Mapping[str, int], num_labels: int, options: Any):
        super().__init__()
        self.sizes = dict(sizes)
        self.question, *self.others = sizes

    def forward(self, tokens: Mapping[str, Tokens]) -> Tensor:
        """
        Args:
            tokens: per modality `(batch, length, sizes[m])` with a mask `(batch, length)`. A modality that the whole
                batch lacks may be left out.

        Returns:
            logits `(batch, num_labels)`.
        """
        raise NotImplementedError(f"{type(self).__name__} is abstract: override `forward`.")


def projection(size: int, hidden_size: int) -> nn.Module:
    """Tokens of a modality to the architecture's width; nothing to do where its encoder has that width."""
    return nn.Identity() if size == hidden_size else nn.Linear(size, hidden_size)
