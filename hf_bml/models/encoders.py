"""Encoders behind one face: whatever a modality's input, `encoder(...)` returns `(batch, output_size)`.

Inputs are positional (the main input) or keywords; the caller picks by passing a tensor or a dict. What cross-modal
interactions need besides: `tokens(...)` returns a sequence instead of a vector, and image encoders run in stages.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import timm
import torch
from timm.layers import Format
from timm.models import FeatureListNet
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation
from transformers import AutoConfig, AutoModel

from .configuration_encoders import build_encoder_config


def masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over dimension 1 of `(batch, length, dim)`, of the positions where `mask (batch, length)` is true."""
    if mask is None:
        return values.mean(1)
    weights = mask.to(values.dtype).unsqueeze(-1)
    return (values * weights).sum(1) / weights.sum(1).clamp_min(1)


class StageMaps(NamedTuple):
    """Feature maps of a batch of images or clips between two stages of an encoder.

    Attributes:
        maps: `(batch * frames, channels, height, width)`.
        frames: frames per sample, None for single images.
        mask: bool `(batch, frames)`, False for padding frames; None for none.
    """

    maps: Tensor
    frames: int | None = None
    mask: Tensor | None = None

    def average(self, values: Tensor) -> Tensor:
        """`(batch * frames, ...)` to `(batch, ...)`: the mean over a clip's frames."""
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
        inputs = self.images(values, mask)
        return inputs.average(self.encode(inputs.maps))

    def tokens(self, values: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """The last feature maps as a sequence `(batch, frames * positions, token_size)`, and which of it is valid."""
        inputs = self.images(values, mask)
        tokens = self.encode_tokens(inputs.maps)
        if inputs.frames is None:
            return tokens, None
        length = tokens.shape[1]
        return tokens.unflatten(0, (-1, inputs.frames)).flatten(1, 2), (
            None if mask is None else mask.repeat_interleave(length, 1)
        )

    def images(self, values: Tensor, mask: Tensor | None = None) -> StageMaps:
        """Checks the input of `forward` and lays the frames of clips out as one batch of images."""
        if values.dim() not in (4, 5) or values.shape[-3] != self.in_channels:
            raise ValueError(
                f"expected (batch, {self.in_channels}, height, width) or (batch, frames, {self.in_channels}, height, "
                f"width), found {tuple(values.shape)}. Set the encoder's in_channels or the processor's channels."
            )
        return StageMaps(values) if values.dim() == 4 else StageMaps(values.flatten(0, 1), values.shape[1], mask)


def mark_initialized(model: nn.Module) -> None:
    """Tells transformers not to initialise the weights of `model` again."""
    for module in model.modules():
        module._is_hf_initialized = True


def positions_as_tokens(maps: Tensor) -> Tensor:
    """`(batch, channels, height, width)` to `(batch, height * width, channels)`."""
    return maps.flatten(2).transpose(1, 2)


class TimmEncoder(ImageEncoder):
    """See `TimmEncoderConfig`. One BatchNorm over all frames of a batch, as in the paper's visual encoder."""

    def __init__(self, config: Any):
        super().__init__()
        self.in_channels = config.in_channels
        self.model = self._create(config, num_classes=0)
        self.output_size = self.model.num_features
        if hasattr(self.model, "head_hidden_size"):
            self.output_size = self.model.head_hidden_size
        self.token_size = self.model.num_features

    @staticmethod
    def _create(config: Any, **options: Any) -> nn.Module:
        on_meta = torch.empty(0).is_meta  # a checkpoint is being loaded: its weights follow
        model = timm.create_model(
            config.architecture,
            pretrained=config.pretrained and not on_meta,
            in_chans=config.in_channels,
            **options,
            **config.model_args,
        )
        if not on_meta:
            mark_initialized(model)
        return model

    def encode(self, images: Tensor) -> Tensor:
        return self.model(images)

    def encode_tokens(self, images: Tensor) -> Tensor:
        hidden = self.model.forward_features(images)
        if hidden.dim() == 3:
            return hidden
        if hidden.shape[1] != self.token_size:  # channels last, as swin's
            return hidden.flatten(1, 2)
        return positions_as_tokens(hidden)


class StagedTimmEncoder(TimmEncoder):
    """A timm CNN that runs stage by stage; its feature is the global average of the last stage."""

    def __init__(self, config: Any):
        ImageEncoder.__init__(self)
        self.in_channels = config.in_channels
        self.model = self._create(config, features_only=True)
        if not isinstance(self.model, FeatureListNet):  # EfficientNet and its kin have nested stages
            flat = {"feature_cls": "list", "flatten_sequential": True}
            with contextlib.suppress(KeyError):  # a model without feature_cfg has no stages at all
                self.model = self._create(config, features_only=True, feature_cfg=flat)
        if not isinstance(self.model, FeatureListNet) or self.model.output_fmt != Format.NCHW:
            raise ValueError(
                f"{config.architecture!r} is no CNN that runs stage by stage, which this interaction needs. Use "
                "resnet18 or another CNN, or interaction: cross_attention."
            )
        self.stage_sizes = self.model.feature_info.channels()
        self.output_size = self.token_size = self.stage_sizes[-1]

    def encode(self, images: Tensor) -> Tensor:
        for index in range(len(self.stage_sizes)):
            images = self.stage(index, images)
        return images.mean((-2, -1))

    def stage(self, index: int, maps: Tensor) -> Tensor:
        ends = [position for position, name in enumerate(self.model) if name in self.model.return_layers]
        first = ends[index - 1] + 1 if index else 0
        for module in list(self.model.values())[first : ends[index] + 1]:
            maps = module(maps)
        return maps


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


class SequenceEncoder(nn.Module):
    """See `SequenceEncoderConfig`. Sinusoidal positions, padding mask, pre-norm layers, mean over valid positions."""

    def __init__(self, config: Any):
        super().__init__()
        self.input_size = config.input_size
        self.output_size = self.token_size = config.hidden_size
        self.projection = nn.Linear(config.input_size, config.hidden_size)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                config.hidden_size,
                config.num_heads,
                config.feedforward_size or 4 * config.hidden_size,
                config.dropout,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(config.num_layers)
        )
        self.norm = nn.LayerNorm(config.hidden_size) if config.num_layers else nn.Identity()

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """
        Args:
            values: `(batch, time, input_size)` or `(batch, input_size)`.
            mask: optional bool `(batch, time)`, False for padding; at least one position per sample is True.
        """
        return masked_mean(*self.tokens(values, mask))

    def tokens(self, values: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """The last hidden states `(batch, time, token_size)`, and `mask`; a vector is a sequence of one."""
        if values.dim() not in (2, 3) or values.shape[-1] != self.input_size:
            raise ValueError(
                f"expected (batch, {self.input_size}) or (batch, time, {self.input_size}), "
                f"found {tuple(values.shape)}. Set the encoder's input_size to the feature's dimension."
            )
        hidden = self.projection(values if values.dim() == 3 else values.unsqueeze(1))
        if values.dim() == 3:
            hidden = hidden + sinusoidal_positions(hidden.shape[1], hidden.shape[2], hidden)
        padding = None if mask is None else ~mask.bool()
        for layer in self.layers:
            hidden = layer(hidden, src_key_padding_mask=padding)
        return self.norm(hidden), mask


def sinusoidal_positions(length: int, size: int, like: Tensor) -> Tensor:
    """Sine-cosine position encodings `(length, size)` in the dtype and on the device of `like`."""
    position = torch.arange(length, device=like.device, dtype=torch.float32).unsqueeze(1)
    frequency = torch.exp(
        torch.arange(0, size, 2, device=like.device, dtype=torch.float32) * (-math.log(10000.0) / size)
    )
    angles = position * frequency  # (length, ceil(size / 2))
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :size].to(like.dtype)


class TransformersEncoder(nn.Module):
    """See `TransformersEncoderConfig`. Takes the keywords of the transformers model, or its main input."""

    def __init__(self, config: Any):
        super().__init__()
        on_meta = torch.empty(0).is_meta  # a checkpoint is being loaded: its weights follow
        overrides = dict(config.config or {})
        model_type = overrides.pop("model_type", None)
        if config.model is not None and model_type is None:
            model_config = AutoConfig.from_pretrained(config.model, **overrides)
        else:
            model_config = AutoConfig.for_model(model_type, **overrides)
        if config.pretrained and not on_meta:
            model = AutoModel.from_pretrained(config.model, config=model_config)
        else:
            model = AutoModel.from_config(model_config)
        if not on_meta:
            mark_initialized(model)  # with DeepSpeed ZeRO-3, transformers itself does so on the main process only
        # A detector (detr) also counts as encoder-decoder, but its encoder does not take images.
        keep_encoder = model_config.is_encoder_decoder and model.main_input_name != "pixel_values"
        self.model = model.get_encoder() if keep_encoder else model
        config.config = {key: value for key, value in model_config.to_dict().items() if _is_plain(value)}
        self.pooling = config.pooling
        self.output_size = self.token_size = config.output_size or hidden_size(self.model.config)
        self.averages_frames = self.model.main_input_name == "pixel_values" and not is_video_model(self.model)

    def forward(self, values: Tensor | None = None, mask: Tensor | None = None, **inputs: Tensor) -> Tensor:
        """
        Args:
            values: the model's main input, such as `input_ids`; may be a clip, see the config.
            mask: optional bool `(batch, frames)` of a clip that is averaged, False for padding frames.
            inputs: keywords of the model; `attention_mask (batch, length)` also tells which positions are averaged.
        """
        frames, inputs = self._inputs(values, mask, inputs)
        features = self.pool(self.encode(**inputs), inputs.get("attention_mask"))  # (batch [* frames], output_size)
        return features if frames is None else masked_mean(features.unflatten(0, (-1, frames)), mask)

    def tokens(
        self, values: Tensor | None = None, mask: Tensor | None = None, **inputs: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """The last hidden states `(batch, length, token_size)`, and bool `(batch, length)`, False for padding; None
        for no padding. Arguments as of `forward`."""
        frames, inputs = self._inputs(values, mask, inputs)
        hidden = self.encode(**inputs)
        if hidden.dim() == 4:
            hidden = positions_as_tokens(hidden)
        if frames is None:
            padding = self._shortened(inputs.get("attention_mask"), hidden.shape[1])
            return hidden, None if padding is None else padding.bool()
        length = hidden.shape[1]
        return hidden.unflatten(0, (-1, frames)).flatten(1, 2), (
            None if mask is None else mask.repeat_interleave(length, 1)
        )

    def _inputs(
        self, values: Tensor | None, mask: Tensor | None, inputs: dict[str, Tensor]
    ) -> tuple[int | None, dict[str, Tensor]]:
        """The frames per clip, if the model sees the frames of clips one by one, and the model's keywords."""
        main = self.model.main_input_name
        if values is not None:
            inputs = {main: values, **inputs}
        clip = inputs.get(main)
        if self.averages_frames and clip is not None and clip.dim() == 5:
            return clip.shape[1], {**inputs, main: clip.flatten(0, 1)}
        if mask is not None:
            raise ValueError(
                "`mask` marks the frames of a clip that an image model sees; pass `attention_mask` instead."
            )
        return None, inputs

    def encode(self, **inputs: Tensor) -> Tensor:
        """Keywords of the model to its last hidden state `(batch, length, dim)` or `(batch, dim, height, width)`."""
        hidden = getattr(self.model(**inputs), "last_hidden_state", None)
        name = self.model.config.model_type
        if hidden is None:
            raise ValueError(
                f"A {name!r} model returns no last_hidden_state, so it is no encoder. Use the model of one of its "
                "parts, such as 'clip_vision_model' for 'clip'."
            )
        size = hidden.shape[1 if hidden.dim() == 4 else -1]
        if size != self.output_size:
            raise ValueError(
                f"expected features of size {self.output_size} from a {name!r} model, found {size}: "
                f"set the encoder's output_size to {size}."
            )
        return hidden

    def pool(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """`(batch, length, dim)` or `(batch, dim, height, width)` to `(batch, dim)`."""
        if hidden.dim() == 4:
            return hidden.mean((-2, -1))
        if self.pooling == "cls":
            return hidden[:, 0]
        return masked_mean(hidden, self._shortened(mask, hidden.shape[1]))

    def _shortened(self, mask: Tensor | None, length: int) -> Tensor | None:
        """The mask at the length of the hidden states, which audio models shorten."""
        if mask is None or mask.shape[1] == length:
            return mask
        if hasattr(self.model, "_get_feature_vector_attention_mask"):
            return self.model._get_feature_vector_attention_mask(length, mask)
        return nn.functional.interpolate(mask.unsqueeze(1).float(), length).squeeze(1)  # an even stride, as whisper's


def hidden_size(config: Any) -> int:
    """Size of the last hidden state by the configuration of a transformers model."""
    sizes = getattr(config, "hidden_sizes", None)  # per stage
    if sizes:
        return sizes[-1]
    for part, name in ((config, "hidden_size"), (config, "d_model"), (config.get_text_config(), "hidden_size")):
        size = getattr(part, name, None)
        if size is not None:
            return size
    raise ValueError(
        f"the configuration of a {config.model_type!r} model has no hidden_sizes, hidden_size or d_model: "
        "set the encoder's output_size to the channels of its last_hidden_state."
    )


def is_video_model(model: nn.Module) -> bool:
    """Whether a transformers model takes clips `(batch, frames, channels, height, width)`, not single images."""
    kinds = model.input_modalities  # a string or several
    return hasattr(model.config, "num_frames") or ("video" in kinds and "image" not in kinds)


def _is_plain(value: Any) -> bool:
    return isinstance(value, (str, int, float, bool, list, dict, type(None)))


ENCODERS = {
    "timm": TimmEncoder,
    "transformers": TransformersEncoder,
    "sequence": SequenceEncoder,
    "conv": ConvEncoder,
}


STAGED_ENCODERS = {"timm": StagedTimmEncoder, "conv": ConvEncoder}


def build_encoder(modality: str, options: dict[str, Any], staged: bool = False) -> nn.Module:
    """The encoder of one modality. `options` is completed in place with what a checkpoint must know to rebuild it.

    Args:
        modality: its name, for messages.
        options: the encoder's config, with its `type`.
        staged: whether the encoder must run stage by stage.

    Raises:
        ValueError: the model cannot be built or its weights cannot be loaded, whatever the library's own error.
    """
    config = build_encoder_config(modality, options)
    classes = STAGED_ENCODERS if staged else ENCODERS
    if options["type"] not in classes:
        raise ValueError(
            f"Encoder of modality {modality!r}: type {options['type']!r} does not run stage by stage, which this "
            f"interaction needs. Use one of {list(classes)}, or interaction: cross_attention."
        )
    try:
        encoder = classes[options["type"]](config)
    except Exception as error:
        source = getattr(config, "model", None) or getattr(config, "architecture", None)
        what = options["type"] if source is None else f"{options['type']} model {source!r}"
        raise ValueError(
            f"Encoder of modality {modality!r}: the {what} cannot be built. {type(error).__name__}: {error} "
            "Check its options, and the id or folder, network and login if it comes from the Hub."
        ) from error
    if options["type"] == "transformers":
        options["config"] = config.config
    return encoder
