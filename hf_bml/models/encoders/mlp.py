"""A multi-layer perceptron as encoder of vectors, such as i-vectors."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from ..options import check_size, size_list
from .base import Encoder
from .sequences import Tokens


@dataclass
class MLPEncoderConfig:
    """Linear layers over vectors `(dim,)`, such as i-vectors; each with batch normalisation and ReLU.

    Usage: `modalities: {audio: {type: mlp, input_size: 100, hidden_sizes: [256, 128]}}`

    Args:
        input_size: dimension of the input.
        hidden_sizes: of each layer; the last is the feature size.
    """

    input_size: int
    hidden_sizes: Sequence[int] = (512,)

    def __post_init__(self) -> None:
        check_size("input_size", self.input_size)
        self.hidden_sizes = size_list("hidden_sizes", self.hidden_sizes, least=1)


class MLPEncoder(Encoder):
    """See `MLPEncoderConfig`."""

    config_class = MLPEncoderConfig

    def __init__(self, config: MLPEncoderConfig):
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
