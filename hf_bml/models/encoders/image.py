"""Encoders of images, spectrograms and clips: timm models and a small convolutional stack.

All see one image at a time and average the features of a clip's frames. CNNs also run stage by stage, for the
interactions that reach between the stages.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.ops import Conv2dNormActivation

from ...ground.suggestion import did_you_mean
from ..frozen import FrozenParts, check_freeze
from ..options import check_flag, check_fraction, check_size, check_sizes, is_number, size_list
from .base import Encoder, mark_initialized
from .sequences import Tokens, frames_as_one_sequence, masked_mean, positions_as_tokens
from .tsn_tsm import TemporalShift, freeze, insert_before_blocks, partially_frozen, set_clips

TIMM_SOURCES = ("hf-hub:", "hf_hub:", "local-dir:")


def check_shift_fraction(value: Any) -> None:
    """Raises ValueError unless `value` is a share of channels that can move both ways, in (0, 0.5]."""
    if not is_number(value) or not 0 < value <= 0.5:
        raise ValueError(f"shift_fraction must be in (0, 0.5], found {value!r}.")


def check_architecture(name: Any) -> None:
    """Raises ValueError, naming the closest valid name, unless timm knows the architecture or it is on the Hub."""
    import timm  # slow to import

    if not isinstance(name, str) or not (name.startswith(TIMM_SOURCES) or timm.is_model(name)):
        hint = did_you_mean(str(name).split(".")[0], timm.list_models())
        raise ValueError(
            f"architecture must be the name of a timm model, found {name!r}.{hint} "
            "timm.list_models('*resnet*') lists names; 'hf-hub:<id>' takes a model from the Hub."
        )


@dataclass
class TimmEncoderConfig:
    """A timm model as encoder of images, spectrograms or optical flow; clips are averaged over frames.

    Usage: `modalities: {visual: {type: timm, architecture: resnet18, in_channels: 3}}`

    Args:
        architecture: timm model name, such as `resnet18` or, with a pretrained tag, `resnet18.a1_in1k`; or a model
            on the Hub, `hf-hub:<id>`.
        in_channels: channels of the input: 1 spectrogram, 2 flow, 3 RGB.
        pretrained: start from timm's pretrained weights (needs the Hub or a local cache). Recipes then process images
            as these were trained; in Python see `hf_bml.models.expected_input`.
        model_args: further keywords of the timm model, such as `{"channels": [8, 16, 32, 64]}` for a thin ResNet.
        temporal_shift: shift channels between the frames of a clip before each residual block of a ResNet (TSM).
        shift_fraction: share of the channels that moves in each direction, in (0, 0.5].
        partial_batch_norm: freeze all batch normalisation but the first layer (TSN); for pretrained weights.
        average_stem: with `pretrained`, give the first convolution the mean over RGB of its weights for every input
            channel (TSN's cross-modality initialisation of flow) instead of timm's own adaptation.
        dropout: of each frame's feature, or of each position's where these are asked for, in [0, 1); TSN has 0.8 for
            RGB and 0.7 for flow. Only for encoders that do not run stage by stage.
        freeze: parts that are not trained and stay in eval mode, by their names in the timm model, with `*` and
            `[0-5]`: `[patch_embed, pos_embed, cls_token, "blocks.[0-5]"]` is the lower half of a ViT.
    """

    architecture: str
    in_channels: int = 3
    pretrained: bool = False
    model_args: dict[str, Any] = field(default_factory=dict)
    temporal_shift: bool = False
    shift_fraction: float = 1 / 8
    partial_batch_norm: bool = False
    average_stem: bool = False
    dropout: float = 0.0
    freeze: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_freeze(self.freeze)
        check_size("in_channels", self.in_channels)
        for option in ("temporal_shift", "partial_batch_norm", "average_stem"):
            check_flag(option, vars(self)[option])
        check_shift_fraction(self.shift_fraction)
        check_fraction("dropout", self.dropout)
        check_architecture(self.architecture)


@dataclass
class ConvEncoderConfig:
    """A small convolutional stack for small images and spectrograms; clips are averaged over frames.

    Every layer is a 3x3 convolution, batch normalisation, ReLU and 2x2 max pooling (an odd last row or column is
    kept); then the global average. `stride: 2, pool: false` is the strided encoder, which halves the maps by the
    convolutions themselves.

    Usage: `modalities: {audio: {type: conv, in_channels: 1, channels: [16, 32, 64]}}`

    Args:
        in_channels: channels of the input.
        channels: output channels of each layer; the last is the feature size.
        stride: of every convolution, at least 1.
        pool: whether max pooling follows.
    """

    in_channels: int = 1
    channels: Sequence[int] = (8, 16, 32, 64)
    stride: int = 1
    pool: bool = True

    def __post_init__(self) -> None:
        check_sizes(self, "in_channels", "stride")
        check_flag("pool", self.pool)
        self.channels = size_list("channels", self.channels, least=1)


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


class ImageEncoder(Encoder):
    """Base of encoders that see one image at a time: checks channels, averages the features of a clip's frames.

    Attributes:
        in_channels: channels of the images.
    """

    in_channels: int

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


class TimmBased(Encoder):
    """Base of encoders around a timm model, which has activation checkpointing of timm's own kind.

    Attributes:
        model: the timm model.
    """

    model: nn.Module

    @cached_property
    def can_checkpoint(self) -> bool:
        try:
            self.model.set_grad_checkpointing(True)
        except (AssertionError, AttributeError):  # how those say no that cannot
            return False
        self.model.set_grad_checkpointing(False)
        return True

    def checkpoint(self, enable: bool, function: Callable[..., Any], every_n_layers: int) -> None:
        if self.can_checkpoint:
            self.model.set_grad_checkpointing(enable)


class ClipCNN(TimmBased, ImageEncoder):
    """Base of the timm encoders: the options of TSN and TSM, which see a clip's frames as such.

    Attributes:
        frozen: batch normalisation layers that stay in eval mode.
        frozen_parts: those of `freeze`.
    """

    def set_model(self, model: nn.Module, config: Any) -> None:
        """Take the timm model, changed by the config's options."""
        self.model = model
        self.shifts = config.temporal_shift
        if self.shifts:
            insert_before_blocks(model, partial(TemporalShift, config.shift_fraction))
        self.frozen = partially_frozen(model) if config.partial_batch_norm else []
        freeze(self.frozen)
        self.frozen_parts = FrozenParts(model, config.freeze)

    @classmethod
    def expected_input(cls, config: Any, wanted: Collection[str]) -> dict[str, Any]:
        if not config.pretrained or config.in_channels != 3:
            return {}
        found = timm_input(config)
        return {name: found[name] for name in wanted if name in found}

    def train(self, mode: bool = True) -> ClipCNN:
        super().train(mode)
        freeze(self.frozen)
        self.frozen_parts.freeze()
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

    config_class = TimmEncoderConfig

    def __init__(self, config: TimmEncoderConfig):
        super().__init__()
        self.in_channels = config.in_channels
        self.set_model(create_timm_model(config, num_classes=0), config)
        self.dropout = nn.Dropout(config.dropout)
        self.token_size = self.model.num_features
        self.output_size = getattr(self.model, "head_hidden_size", self.model.num_features)  # of some CNNs

    @classmethod
    def staged_class(cls) -> type[Encoder]:
        return StagedTimmEncoder

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
        from timm.layers import Format  # timm is slow to import
        from timm.models import FeatureListNet

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
        again = self.model.grad_checkpointing and self.training and torch.is_grad_enabled()
        for module in list(self.model.values())[slice(*self.stage_ranges[index])]:
            maps = checkpoint(module, maps, use_reentrant=False) if again else module(maps)
        return maps


def timm_input(config: Any) -> dict[str, Any]:
    """Size `[height, width]`, mean and standard deviation of the RGB images that a timm model was pretrained on.

    Args:
        config: a `TimmEncoderConfig`; another `img_size` of its `model_args` counts.
    """
    from timm.models import get_pretrained_cfg, load_model_config_from_hf  # timm is slow to import

    source, _, place = config.architecture.partition(":")
    if not place:
        found = get_pretrained_cfg(config.architecture).to_dict()
    elif source == "local-dir":
        found = json.loads((Path(place) / "config.json").read_text(encoding="utf-8"))
        found = found.get("pretrained_cfg", found)  # which older files have at the top
    else:
        found = load_model_config_from_hf(place)[0]
    size = config.model_args.get("img_size", found["input_size"][1:])
    return {
        "size": [size, size] if isinstance(size, int) else list(size),
        "mean": list(found["mean"]),
        "std": list(found["std"]),
    }


def create_timm_model(config: Any, **options: Any) -> nn.Module:
    """The timm model of a `TimmEncoderConfig`, with its pretrained weights unless a checkpoint is being loaded.

    Args:
        config: the encoder's config.
        options: further keywords of `timm.create_model`.
    """
    import timm  # slow to import

    on_meta = torch.empty(0).is_meta  # a checkpoint is being loaded: its weights follow
    model = timm.create_model(
        config.architecture,
        pretrained=config.pretrained and not on_meta,
        in_chans=config.in_channels,
        **options,
        **config.model_args,
    )
    if config.pretrained and config.average_stem and not on_meta:
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
    import timm  # slow to import

    source = timm.create_model(config.architecture, pretrained=True, **config.model_args)
    stem = source.pretrained_cfg["first_conv"]
    weight = source.get_submodule(stem).weight.mean(1, keepdim=True)  # (out, 1, height, width)
    model.get_submodule(stem).weight.copy_(weight.expand(-1, config.in_channels, -1, -1))


class ConvEncoder(ImageEncoder):
    """See `ConvEncoderConfig`. Every layer is a stage."""

    config_class = ConvEncoderConfig

    @classmethod
    def staged_class(cls) -> type[Encoder]:
        return cls

    def __init__(self, config: ConvEncoderConfig):
        super().__init__()
        self.in_channels = config.in_channels
        sizes = [config.in_channels, *config.channels]
        self.layers = nn.Sequential()
        for before, after in itertools.pairwise(sizes):
            pool = nn.MaxPool2d(2, ceil_mode=True) if config.pool else nn.Identity()
            self.layers.extend([Conv2dNormActivation(before, after, stride=config.stride), pool])
        self.stage_sizes = list(config.channels)
        self.output_size = self.token_size = config.channels[-1]

    def encode(self, images: Tensor) -> Tensor:
        return self.layers(images).mean((-2, -1))

    def encode_tokens(self, images: Tensor) -> Tensor:
        return positions_as_tokens(self.layers(images))

    def stage(self, index: int, maps: Tensor) -> Tensor:
        return self.layers[2 * index : 2 * index + 2](maps)
