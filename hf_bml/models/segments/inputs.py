"""What a segment of a modality is: a feature that was extracted before, or what an encoder makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..encoders.build import build_encoder
from ..encoders.sequences import Tokens
from ..options import check_size


@dataclass
class FeatureInputConfig:
    """Of segments: features that were extracted before, such as VGGish of the sound and VGG-19 of the frames.

    Usage: `task: segment_classification,
        modalities: {audio: {type: features, input_size: 128}, visual: {type: features, input_size: 512}}`

    Args:
        input_size: dimension of a feature.
    """

    input_size: int

    def __post_init__(self) -> None:
        check_size("input_size", self.input_size)


class SegmentInput(nn.Module):
    """From a modality's keyword of the model to `(batch, segments, size)`, or `(batch, segments, positions, size)`.

    Args:
        size: of what it returns.
        positions: whether the positions of a segment stay apart; else their mean is taken.
    """

    def __init__(self, size: int, positions: bool):
        super().__init__()
        self.size = size
        self.positions = positions

    def arranged(self, values: Tensor) -> Tensor:
        """`(batch, segments, [positions,] size)` with the positions as asked for; a vector is a single one."""
        if self.positions:
            return values.unsqueeze(2) if values.dim() == 3 else values
        return values if values.dim() == 3 else values.mean(2)


class FeatureInput(SegmentInput):
    """See `FeatureInputConfig`."""

    config_class = FeatureInputConfig

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """
        Args:
            values: `(batch, segments, input_size)`, or with positions between, `(batch, segments, positions,
                input_size)` or `(batch, segments, height, width, input_size)`.
            mask: what the collator gives beside a sequence; a clip has all its segments, so it is not used.
        """
        if values.dim() not in (3, 4, 5) or values.shape[-1] != self.size:
            remedy = "Set input_size to the feature's dimension."
            if values.shape[-1] == self.size:
                remedy = "Give a feature for every segment of a clip, also where there is one segment only."
            raise ValueError(
                f"expected (batch, segments, {self.size}), or positions between the last two axes, found "
                f"{tuple(values.shape)}. {remedy}"
            )
        return self.arranged(values.flatten(2, 3) if values.dim() == 5 else values)


FEATURES = "features"
SEGMENT_INPUTS = {FEATURES: FeatureInput}  # beside the encoders


class EncodedInput(SegmentInput):
    """An encoder that sees every segment by itself.

    Args:
        encoder: as `build_encoder` makes it.
        positions: see `SegmentInput`.
    """

    def __init__(self, encoder: nn.Module, positions: bool):
        super().__init__(encoder.token_size if positions else encoder.output_size, positions)
        self.encoder = encoder

    def forward(self, values: Tensor | None = None, mask: Tensor | None = None, **inputs: Tensor) -> Tensor:
        """
        Args:
            values: the encoder's main input with the segments behind the batch, such as images `(batch, segments,
                channels, height, width)`.
            mask: see `FeatureInput`.
            inputs: keywords of the encoder, each `(batch, segments, ...)`.
        """
        inputs = inputs if values is None else {"values": values, **inputs}
        short = {name: tuple(value.shape) for name, value in inputs.items() if value.dim() < 3}
        if short:
            raise ValueError(
                f"expected (batch, segments, ...), found {short}. Cut a raw clip into segments: log_spectrogram has "
                "`segments` for it, and video gives one frame per segment (num_frames)."
            )
        segments = next(iter(inputs.values())).shape[1]
        every = {name: value.flatten(0, 1) for name, value in inputs.items()}
        encoded = self.encoder.tokens(**every) if self.positions else self.encoder(**every)
        encoded = encoded.values if isinstance(encoded, Tokens) else encoded
        return self.arranged(encoded.unflatten(0, (-1, segments)))


def build_segment_input(modality: str, options: dict[str, Any], positions: bool) -> SegmentInput:
    """The input of one modality. `options` is completed in place with what a checkpoint must know to rebuild it.

    Args:
        modality: its name, for messages.
        options: its config, with its `type`.
        positions: see `SegmentInput`.

    Raises:
        ValueError: an encoder that cannot be built.
    """
    if options["type"] == FEATURES:
        return FeatureInput(options["input_size"], positions)
    return EncodedInput(build_encoder(modality, options), positions)
