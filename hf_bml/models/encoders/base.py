"""The face of an encoder: whatever a modality's input, `encoder(...)` returns `(batch, output_size)`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..checkpointing import can_checkpoint, checkpoint_layers
from .sequences import Tokens


class Encoder(nn.Module):
    """From the input of one modality to its feature.

    To add an encoder, write a subclass and a dataclass of its options. In YAML and in Python it is then known as
    `{"type": "package.module:Name", **options}`; `ENCODERS["name"] = Name` gives it a short name. What a saved model
    names is not imported: register your class, in either way, before you load one.

        @dataclass
        class PooledConfig:
            input_size: int
            hidden_size: int = 64

        class PooledEncoder(Encoder):
            config_class = PooledConfig

            def __init__(self, config):
                super().__init__()
                self.output_size = self.token_size = config.hidden_size
                self.layer = nn.Linear(config.input_size, config.hidden_size)

            def forward(self, values, mask=None):
                return self.tokens(values, mask).mean()

            def tokens(self, values, mask=None):
                return Tokens(self.layer(values), mask)

    A batch that holds a tensor is the first argument; a dict of tensors, as the collator makes it of sequences
    (`values`, `mask`) and of token ids (`input_ids`, `attention_mask`), is passed by keyword. Weights are initialised
    by the model, unless `mark_initialized` says that they are already.

    Args:
        config: a `config_class`.

    Attributes:
        config_class: dataclass of the options, which its `__post_init__` checks with ValueErrors. They are saved in
            `config.json`, so they are plain JSON; what the encoder changes in them is saved, too.
        output_size: size of the feature.
        token_size: size of a token.
        takes_token_ids: whether the main input is token ids, so that the modality may be the question.
        stage_sizes: channels after each stage, where the encoder can run stage by stage; else empty.
        provenance: what a model card says about where the encoder is from.
    """

    config_class: ClassVar[type]
    provenance: ClassVar[str | None] = None
    output_size: int
    token_size: int
    takes_token_ids: bool = False
    stage_sizes: Sequence[int] = ()

    def forward(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        """The feature `(batch, output_size)`."""
        raise NotImplementedError(f"{type(self).__name__} is abstract: override `forward`.")

    def tokens(self, *inputs: Tensor, **named: Tensor) -> Tokens:
        """A sequence in the place of the feature, for interactions and questions; arguments as of `forward`."""
        raise NotImplementedError(f"{type(self).__name__} has no tokens, which are needed here: override `tokens`.")

    @property
    def can_checkpoint(self) -> bool:
        """Whether it has layers for activation checkpointing; by default, those of the transformers models inside."""
        return can_checkpoint(self)

    def checkpoint(self, enable: bool, function: Callable[..., Any], every_n_layers: int) -> None:
        """Turns activation checkpointing on or off in these layers; see `checkpoint_layers`."""
        checkpoint_layers(self, enable, function, every_n_layers)

    @classmethod
    def expected_input(cls, config: Any, wanted: Collection[str]) -> dict[str, Any]:
        """What the encoder was pretrained on, as options of its modality's processor; nothing for random weights.

        Args:
            config: a `config_class`.
            wanted: the options to look up: `size`, `mean` and `std` of images, `tokenizer`, `feature_extractor`.

        Returns:
            those that are known, plain JSON.

        Raises:
            ValueError, OSError: it is not written down where the weights are from.
        """
        return {}

    @classmethod
    def staged_class(cls) -> type[Encoder] | None:
        """The class that runs stage by stage with the same options (see `ImageEncoder`); None if there is none."""
        return None


def mark_initialized(model: nn.Module) -> None:
    """Tells transformers not to initialise the weights again, unless those of a checkpoint follow."""
    if torch.empty(0).is_meta:
        return
    for module in model.modules():
        module._is_hf_initialized = True
