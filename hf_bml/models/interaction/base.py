"""The face of an interaction; by itself it is late fusion, in which nothing is exchanged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from ..fusion import FUSIONS, FusionHead, drop_features
from ..options import HeadOptions

Inputs = Tensor | dict[str, Tensor]


def call(function: Callable[..., Any], inputs: Inputs) -> Any:
    """`function` of a modality's input, which is a tensor or a dict of keywords."""
    return function(**inputs) if isinstance(inputs, dict) else function(inputs)


def fill_absent(
    features: Mapping[str, Tensor | None], sizes: Mapping[str, int], keep_mask: Tensor | None
) -> dict[str, Tensor]:
    """Features per modality `(batch, sizes[m])` with zeros where a modality is None or `keep_mask` is False."""
    example = next(feature for feature in features.values() if feature is not None)
    filled = {
        name: example.new_zeros(example.shape[0], sizes[name]) if feature is None else feature
        for name, feature in features.items()
    }
    return filled if keep_mask is None else drop_features(filled, keep_mask)


class Interaction(nn.Module):
    """Late fusion, and the base class of interactions.

    A modality is `start`ed by itself; `forward` joins the started modalities under the keep mask that the modulations
    decided, and `alone` tells what one of them computes without the others.

    Args:
        encoders: per modality, in modality order.
        options: an `options_class`, or None if the interaction has no options.

    Attributes:
        sizes: feature size per modality, as `forward` and `alone` return it.
        own_sizes: size of what `own` returns.
    """

    options_class: ClassVar[type | None] = None
    staged: ClassVar[bool] = False  # whether the encoders must run stage by stage
    features_are_unimodal: ClassVar[bool] = True  # whether a modality's feature depends on that modality alone
    has_own_head: ClassVar[bool] = False  # whether `build_head` leaves no choice of fusion

    def __init__(self, encoders: Mapping[str, nn.Module], options: Any = None):
        super().__init__()
        self.sizes = {modality: encoder.output_size for modality, encoder in encoders.items()}

    @property
    def own_sizes(self) -> dict[str, int]:
        """Size of what `own` returns, per modality."""
        return self.sizes

    def own(self, modality: str, feature: Tensor) -> Tensor:
        """The part of a feature `(batch, sizes[modality])` that a modality's own classifier sees."""
        return feature

    def build_head(self, config: HeadOptions) -> FusionHead:
        """The head that predicts from the features of `forward`."""
        return FUSIONS[config.fusion](self.sizes, config)

    def start(self, encoder: nn.Module, inputs: Inputs) -> Any:
        """What a modality computes before it meets the others; here its feature `(batch, dim)`."""
        return call(encoder, inputs)

    def forward(
        self, encoders: Mapping[str, nn.Module], started: Mapping[str, Any], keep_mask: Tensor | None = None
    ) -> dict[str, Tensor]:
        """
        Args:
            encoders: per modality.
            started: per modality, as `start` returned it; None for one that the whole batch lacks.
            keep_mask: bool `(batch, modalities)`, the modalities to join in each sample; None for all.

        Returns:
            features per modality `(batch, dim)`, zero where `keep_mask` is False.
        """
        return fill_absent(started, self.sizes, keep_mask)

    def alone(self, encoders: Mapping[str, nn.Module], modality: str, started: Any) -> Tensor:
        """The feature `(batch, dim)` of a modality when all others are absent."""
        return self(encoders, {**dict.fromkeys(self.sizes), modality: started})[modality]


class StagedInteraction(Interaction):
    """Base of the interactions that reach between the stages of CNNs.

    Args:
        encoders: per modality, with `stage_sizes`.
        stages: how many of the last stages take part.

    Attributes:
        stage_sizes: per modality the channels of these stages.

    Raises:
        ValueError: an encoder has fewer stages.
    """

    staged = True

    def __init__(self, encoders: Mapping[str, nn.Module], stages: int):
        super().__init__(encoders)
        for modality, encoder in encoders.items():
            if len(encoder.stage_sizes) < stages:
                raise ValueError(
                    f"interaction_options: stages is {stages}, but the encoder of {modality!r} has only "
                    f"{len(encoder.stage_sizes)} stages. Lower `stages`, or use a deeper encoder."
                )
        self.stages = stages
        self.stage_sizes = {modality: list(encoder.stage_sizes[-stages:]) for modality, encoder in encoders.items()}
