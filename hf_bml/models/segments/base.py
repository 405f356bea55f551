"""The face of an architecture that labels segments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..fusion import evaluation_mode, keep_only
from ..prediction import Prediction
from .inputs import SegmentInput


class SegmentArchitecture(nn.Module):
    """Base class.

    An architecture makes the modalities' encoders, computes their features, and predicts from these. Encoders and
    architecture are separate, because the parameters of the encoders are theta^m and those of the architecture belong
    to no modality.

    Args:
        inputs: per modality, in modality order.
        options: an `options_class`.
        num_labels: classes, the background included.

    Attributes:
        provenance: which published work it follows, and what differs from that; for model cards.
        sizes: feature size per modality.
        own_size: of what `alone` returns.
    """

    own_size: int
    options_class: ClassVar[type]
    provenance: ClassVar[str]
    has_branches: ClassVar[bool] = False  # whether a prediction has `branches`

    def __init__(self, inputs: Mapping[str, SegmentInput], options: Any, num_labels: int):
        super().__init__()
        self.sizes = {name: module.size for name, module in inputs.items()}

    @classmethod
    def check(cls, options: Any, modalities: Sequence[str]) -> None:
        """Raises ValueError unless the architecture is defined for these modalities."""

    @classmethod
    def uses_positions(cls, options: Any, modalities: Sequence[str]) -> set[str]:
        """The modalities of which the architecture needs the positions of a segment, not their mean."""
        return set()

    def build_encoder(self, modality: str, segment_input: SegmentInput) -> nn.Module:
        """theta^m of a modality, with `input`, what it was given."""
        raise NotImplementedError(f"{type(self).__name__} is abstract: override `build_encoder`.")

    def features(
        self, encoders: Mapping[str, nn.Module], inputs: Mapping[str, Tensor | None], presence: Mapping[str, Tensor]
    ) -> dict[str, Tensor | None]:
        """The inputs of the recurrent layers, per modality `(batch, segments, dim)`; None for one that is None.

        Args:
            encoders: per modality.
            inputs: per modality `(batch, segments, dim)`, or `(batch, segments, positions, dim)` where
                `uses_positions`; None for one that the whole batch lacks.
            presence: per modality bool `(batch,)`, False for samples that lack it; empty if none does.
        """
        return dict(inputs)

    def alone(self, encoders: Mapping[str, nn.Module], modality: str, values: Tensor) -> Tensor:
        """What a modality's recurrent layer says when no other modality is there, nor a guide.

        It depends on the modality's own encoder alone, which must have a `recurrent` layer.

        Args:
            encoders: per modality.
            modality: its name.
            values: its input, as for `features`.

        Returns:
            `(batch, segments, own_size)`.
        """
        features = self.features(encoders, {**dict.fromkeys(self.sizes), modality: values}, {})
        return encoders[modality].recurrent(features[modality])[0]

    def forward(self, encoders: Mapping[str, nn.Module], features: Mapping[str, Tensor]) -> Prediction:
        """Per modality the feature `(batch, segments, dim)`, zero where it is absent or dropped, to the prediction."""
        raise NotImplementedError(f"{type(self).__name__} is abstract: override `forward`.")

    def zero_out_logits(self, encoders: nn.ModuleDict, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What each modality alone predicts, `(batch, segments, num_labels)`: the others' features zero, eval mode.

        One pass over a batch that holds one zeroed-out copy of the features per modality.
        """
        kept = [keep_only(features, modality) for modality in features]
        stacked = {name: torch.cat([features[name] for features in kept]) for name in features}
        with evaluation_mode(self), evaluation_mode(encoders):
            logits = self(encoders, stacked).logits
        return dict(zip(features, logits.chunk(len(kept)), strict=True))
