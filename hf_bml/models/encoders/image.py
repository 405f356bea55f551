"""Encoders of images, spectrograms and clips: timm models and a small convolutional stack.

All see one image at a time and average the features of a clip's frames. CNNs also run stage by stage, for the
interactions that reach between the stages.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import timm
import torch
from timm.layers import Format
from timm.models import FeatureListNet
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from ..segment_networks import TemporalShift, freeze, insert_before_blocks, partially_frozen, set_clips
from .sequences import Tokens, frames_as_one_sequence, masked_mean, positions_as_tokens


class StageMaps(NamedTuple):
    """Feature maps of a batch of images or clips between two stages of an encoder.

    Attributes:
        maps: `(batch * frames, channels, height, width)`.
        frames: frames per sample, None for single images.
        mask: bool `(batch, frames)`, False for padding frames; None for no padding.
    """

    maps: Tensor
    frames: int | None = None
    mask: Tensor | None = None

    def average(self, values: Tensor) -> Tensor:
        """`(batch * frames, dim)` to `(batch, dim)`: the mean over a clip's frames."""
        return values if self.frames is None else masked_mean(values.unflatten(0, (-1, self.frames)), self.mask)

    def pooled(self) -> Tensor:
        """The average over positions and frames, `(batch, channels)`."""
        return self.average(self.maps.mean((-2, -1)))

    def scaled(self, gate: Tensor) -> StageMaps:
        """The maps times `gate (batch, channels)`, the same for all frames of a sample."""
        gate = gate if self.frames is None else gate.repeat_interleave(self.frames, 0)
        return self._replace(maps=self.maps * gate[:, :, None, None].to(self.maps.dtype))


class ImageEncoder(nn.Module):
    """Base of encoders that see one image at a time: checks channels, averages the features of a clip's frames.

    Attributes:
        in_channels: channels of the images.
        output_size: size of the feature.
        token_size: size of a token.
        stage_sizes: channels after each stage, where the encoder can run stage by stage; else empty.
    """

    in_channels: int
    output_size: int
    token_size: int
    stage_sizes: Sequence[int] = ()

    def encode(self, images: Tensor) -> Tensor:
        """`(batch, channels, height, width)` to `(batch, output_size)`."""
        raise NotImplementedError(f"{type(self).__name__} is abstract: override `encode`.")

    def encode_tokens(self, images: Tensor) -> Tensor:
        """`(batch, channels, height, width)` to `(batch, length, token_size)`."""
        raise NotImplementedError(f"{type(self).__name__} is abstract: override `encode_tokens`.")

    def stage(self, index: int, maps: Tensor) -> Tensor:
        """One stage: `(batch, channels, height, width)` to `(batch, stage_sizes[index], ...)`; 0 takes the images."""
        raise NotImplementedError(f"{type(self).__name__} does not run in stages.")

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """
        Args:
            values: `(batch, channels, height, width)` or `(batch, frames, channels, height, width)`.
            mask: optional bool `(batch, frames)`, False for padding frames.
        """
        images = self.images(values, mask)
        return images.average(self.encode(images.maps))

    def tokens(self, values: Tensor, mask: Tensor | None = None) -> Tokens:
        """The positions of the last feature maps, of all frames: `(batch, frames * positions, token_size)`.

        Arguments as of `forward`.
        """
        images = self.images(values, mask)
        tokens = self.encode_tokens(images.maps)
        return Tokens(tokens) if images.frames is None else frames_as_one_sequence(tokens, images.frames, mask)

    def images(self, values: Tensor, mask: Tensor | None = None) -> StageMaps:
        """The input of `forward`, checked, with the frames of all clips as one batch of images."""
        if values.dim() not in (4, 5) or values.shape[-3] != self.in_channels:
            raise ValueError(
                f"expected (batch, {self.in_channels}, height, width) or (batch, frames, {self.in_channels}, height, "
                f"width), found {tuple(values.shape)}. Set the encoder's in_channels or the processor's channels."
            )
        return StageMaps(values) if values.dim() == 4 else StageMaps(values.flatten(0, 1), values.shape[1], mask)

    def run_stages(self, indices: Iterable[int], state: StageMaps) -> StageMaps:
        """`state` after the stages `indices`, one after the other."""
        for index in indices:
            state = state._replace(maps=self.stage(index, state.maps))
        return state


class ClipCNN(ImageEncoder):
    """Base of the timm encoders: the options of TSN and TSM, which see a clip's frames as such.

    Attributes:
        model: the timm model.
        frozen: batch normalisation layers that stay in eval mode.
    """

    def set_model(self, model: nn.Module, config: Any) -> None:
        """Take the timm model, changed by the config's options."""
        self.model = model
        self.shifts = config.temporal_shift
        if self.shifts:
            insert_before_blocks(model, partial(TemporalShift, config.shift_fraction))
        self.frozen = partially_frozen(model) if config.partial_batch_norm else []
        freeze(self.frozen)

    def train(self, mode: bool = True) -> ClipCNN:
        super().train(mode)
        freeze(self.frozen)
        return self

    def images(self, values: Tensor, mask: Tensor | None = None) -> StageMaps:
        images = super().images(values, mask)
        if self.shifts:
            set_clips(self.model, images.frames or 1, mask)
        return images


class TimmEncoder(ClipCNN):
    """See `TimmEncoderConfig`. One BatchNorm over all frames of a batch, as in the paper's visual encoder.

    The tokens are the model's last feature maps; what some CNNs have behind them (mobilenetv3's last convolution) is
    not used then.
    """

    def __init__(self, config: Any):
        super().__init__()
        self.in_channels = config.in_channels
        self.set_model(create_timm_model(config, num_classes=0), config)
        self.dropout = nn.Dropout(config.dropout)
        self.token_size = self.model.num_features
        self.output_size = getattr(self.model, "head_hidden_size", self.model.num_features)

    def encode(self, images: Tensor) -> Tensor:
        return self.dropout(self.model(images))

    def encode_tokens(self, images: Tensor) -> Tensor:
        hidden = self.dropout(self.model.forward_features(images))
        if hidden.dim() == 3:
            return hidden
        if hidden.shape[1] != self.token_size:  # channels last, as swin's
            return hidden.flatten(1, 2)
        return positions_as_tokens(hidden)


class StagedTimmEncoder(ClipCNN):
    """A timm CNN that runs stage by stage; its feature is the global average of the last stage.

    Raises:
        ValueError: the model is not a chain of stages with channels-first maps, or `dropout` is set.
    """

    def __init__(self, config: Any):
        super().__init__()
        if config.dropout:
            raise ValueError(
                f"dropout is {config.dropout}, but an encoder that runs stage by stage has none. Leave it out."
            )
        self.in_channels = config.in_channels
        model = create_timm_model(config, features_only=True)
        if not isinstance(model, FeatureListNet):  # EfficientNet and its kin, unless the chain is asked for
            chain = {"feature_cls": "list", "flatten_sequential": True}
            with contextlib.suppress(AssertionError, KeyError, TypeError):  # models that know no such option
                model = create_timm_model(config, features_only=True, feature_cfg=chain)
        if not isinstance(model, FeatureListNet) or model.output_fmt != Format.NCHW:
            raise ValueError(
                f"{config.architecture!r} does not run stage by stage, which this interaction needs. Use resnet18 or "
                "another CNN, or interaction: cross_attention."
            )
        self.set_model(model, config)
        self.stage_sizes = model.feature_info.channels()
        self.output_size = self.token_size = self.stage_sizes[-1]
        ends = [position + 1 for position, name in enumerate(model) if name in model.return_layers]
        self.stage_ranges = list(itertools.pairwise([0, *ends]))

    def encode(self, images: Tensor) -> Tensor:
        return self.run_stages(range(len(self.stage_sizes)), StageMaps(images)).pooled()

    def stage(self, index: int, maps: Tensor) -> Tensor:
        for module in list(self.model.values())[slice(*self.stage_ranges[index])]:
            maps = module(maps)
        return maps


def create_timm_model(config: Any, **options: Any) -> nn.Module:
    """The timm model of a `TimmEncoderConfig`, with its pretrained weights unless a checkpoint is being loaded.

    Args:
        config: the encoder's config.
        options: further keywords of `timm.create_model`.
    """
    on_meta = torch.empty(0).is_meta  # a checkpoint is being loaded: its weights follow
    model = timm.create_model(
        config.architecture,
        pretrained=config.pretrained and not on_meta,
        in_chans=config.in_channels,
        **options,
        **config.model_args,
    )
    if not on_meta:
        if config.pretrained and config.average_stem:
            average_stem(model, config)
        mark_initialized(model)
    return model


@torch.no_grad()
def average_stem(model: nn.Module, config: Any) -> None:
    """Gives every input channel of the first convolution the mean over RGB of the pretrained weights, in place.

    Args:
        model: the timm model of `config`, with any number of input channels.
        config: a `TimmEncoderConfig`.
    """
    source = timm.create_model(config.architecture, pretrained=True, **config.model_args)
    stem = source.pretrained_cfg["first_conv"]
    weight = source.get_submodule(stem).weight.mean(1, keepdim=True)  # (out, 1, height, width)
    model.get_submodule(stem).weight.copy_(weight.expand(-1, config.in_channels, -1, -1))


def mark_initialized(model: nn.Module) -> None:
    """Tells transformers not to initialise the weights again."""
    for module in model.modules():
        module._is_hf_initialized = True


class ConvEncoder(ImageEncoder):
    """See `ConvEncoderConfig`. Every layer is a stage."""

    def __init__(self, config: Any):
        super().__init__()
        self.in_channels = config.in_channels
        sizes = [config.in_channels, *config.channels]
        self.layers = nn.Sequential()
        for before, after in itertools.pairwise(sizes):
            self.layers.extend([Conv2dNormActivation(before, after), nn.MaxPool2d(2, ceil_mode=True)])
        self.stage_sizes = list(config.channels)
        self.output_size = self.token_size = config.channels[-1]

    def encode(self, images: Tensor) -> Tensor:
        return self.layers(images).mean((-2, -1))

    def encode_tokens(self, images: Tensor) -> Tensor:
        return positions_as_tokens(self.layers(images))

    def stage(self, index: int, maps: Tensor) -> Tensor:
        return self.layers[2 * index : 2 * index + 2](maps)
