"""A multi-layer perceptron as encoder of vectors, such as i-vectors."""

from __future__ import annotations

import itertools
from typing import Any

from torch import Tensor, nn

from .sequences import Tokens


class MLPEncoder(nn.Module):
    """See `MLPEncoderConfig`."""

    def __init__(self, config: Any):
        super().__init__()
        self.input_size = config.input_size
        self.output_size = self.token_size = config.hidden_sizes[-1]
        self.layers = nn.Sequential(
            *(
                nn.Sequential(nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU())
                for before, after in itertools.pairwise([config.input_size, *config.hidden_sizes])
            )
        )

    def forward(self, values: Tensor) -> Tensor:
        """`(batch, input_size)` to `(batch, output_size)`."""
        if values.dim() != 2 or values.shape[1] != self.input_size:
            raise ValueError(
                f"expected (batch, {self.input_size}), found {tuple(values.shape)}. Set the encoder's input_size to "
                "the vector's dimension, or use type sequence for sequences of vectors."
            )
        return self.layers(values)

    def tokens(self, values: Tensor) -> Tokens:
        """The feature as a sequence of one, `(batch, 1, token_size)`."""
        return Tokens(self(values).unsqueeze(1))
