"""Encoders behind one face: whatever a modality's input, `encoder(...)` returns `(batch, output_size)`.

Inputs are positional (the main input) or keywords; the caller picks by passing a tensor or a dict.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation
from transformers import AutoConfig, AutoModel

from .configuration_multimodal import build_encoder_config


def masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over dimension 1 of `(batch, length, dim)`, of the positions where `mask (batch, length)` is true."""
    if mask is None:
        return values.mean(1)
    weights = mask.to(values.dtype).unsqueeze(-1)
    return (values * weights).sum(1) / weights.sum(1).clamp_min(1)


class ImageEncoder(nn.Module):
    """Base of encoders that see one image at a time: checks channels, averages the features of a clip's frames."""

    in_channels: int

    def encode(self, images: Tensor) -> Tensor:
        """`(batch, channels, height, width)` to `(batch, output_size)`."""
        raise NotImplementedError(f"{type(self).__name__} is abstract: override `encode`.")

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """
        Args:
            values: `(batch, channels, height, width)` or `(batch, frames, channels, height, width)`.
            mask: optional bool `(batch, frames)`, False for padding frames.
        """
        if values.dim() not in (4, 5) or values.shape[-3] != self.in_channels:
            raise ValueError(
                f"expected (batch, {self.in_channels}, height, width) or (batch, frames, {self.in_channels}, height, "
                f"width), found {tuple(values.shape)}. Set the encoder's in_channels or the processor's channels."
            )
        if values.dim() == 4:
            return self.encode(values)
        features = self.encode(values.flatten(0, 1))  # (batch * frames, output_size)
        return masked_mean(features.unflatten(0, values.shape[:2]), mask)


class TimmEncoder(ImageEncoder):
    """See `TimmEncoderConfig`. One BatchNorm over all frames of a batch, as in the paper's visual encoder."""

    def __init__(self, config: Any):
        super().__init__()
        self.in_channels = config.in_channels
        on_meta = torch.empty(0).is_meta  # a checkpoint is being loaded: its weights follow
        self.model = timm.create_model(
            config.architecture,
            pretrained=config.pretrained and not on_meta,
            num_classes=0,
            in_chans=config.in_channels,
            **config.model_args,
        )
        self.output_size = self.model.num_features
        if hasattr(self.model, "head_hidden_size"):
            self.output_size = self.model.head_hidden_size
        if not on_meta:
            for module in self.model.modules():  # timm has initialised it; transformers must not do so again
                module._is_hf_initialized = True

    def encode(self, images: Tensor) -> Tensor:
        return self.model(images)


class ConvEncoder(ImageEncoder):
    """See `ConvEncoderConfig`."""

    def __init__(self, config: Any):
        super().__init__()
        self.in_channels = config.in_channels
        sizes = [config.in_channels, *config.channels]
        self.layers = nn.Sequential()
        for before, after in itertools.pairwise(sizes):
            self.layers.extend([Conv2dNormActivation(before, after), nn.MaxPool2d(2, ceil_mode=True)])
        self.output_size = config.channels[-1]

    def encode(self, images: Tensor) -> Tensor:
        return self.layers(images).mean((-2, -1))


class SequenceEncoder(nn.Module):
    """See `SequenceEncoderConfig`. Sinusoidal positions, padding mask, pre-norm layers, mean over valid positions."""

    def __init__(self, config: Any):
        super().__init__()
        self.input_size = config.input_size
        self.output_size = config.hidden_size
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
        return masked_mean(self.norm(hidden), mask)


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
        # A detector (detr) also counts as encoder-decoder, but its encoder does not take images.
        keep_encoder = model_config.is_encoder_decoder and model.main_input_name != "pixel_values"
        self.model = model.get_encoder() if keep_encoder else model
        config.config = {key: value for key, value in model_config.to_dict().items() if _is_plain(value)}
        self.pooling = config.pooling
        self.output_size = config.output_size or hidden_size(self.model.config)
        self.averages_frames = self.model.main_input_name == "pixel_values" and not is_video_model(self.model)

    def forward(self, values: Tensor | None = None, mask: Tensor | None = None, **inputs: Tensor) -> Tensor:
        """
        Args:
            values: the model's main input, such as `input_ids`; may be a clip, see the config.
            mask: optional bool `(batch, frames)` of a clip that is averaged, False for padding frames.
            inputs: keywords of the model; `attention_mask (batch, length)` also tells which positions are averaged.
        """
        main = self.model.main_input_name
        if values is not None:
            inputs = {main: values, **inputs}
        clip = inputs.get(main)
        if self.averages_frames and clip is not None and clip.dim() == 5:
            features = self.encode(**{**inputs, main: clip.flatten(0, 1)})  # (batch * frames, output_size)
            return masked_mean(features.unflatten(0, clip.shape[:2]), mask)
        if mask is not None:
            raise ValueError(
                "`mask` marks the frames of a clip that an image model sees; pass `attention_mask` instead."
            )
        return self.encode(**inputs)

    def encode(self, **inputs: Tensor) -> Tensor:
        """Keywords of the model to `(batch, output_size)`."""
        hidden = getattr(self.model(**inputs), "last_hidden_state", None)
        name = self.model.config.model_type
        if hidden is None:
            raise ValueError(
                f"A {name!r} model returns no last_hidden_state, so it is no encoder. Use the model of one of its "
                "parts, such as 'clip_vision_model' for 'clip'."
            )
        features = self.pool(hidden, inputs.get("attention_mask"))
        if features.shape[-1] != self.output_size:
            raise ValueError(
                f"expected features of size {self.output_size} from a {name!r} model, found {features.shape[-1]}: "
                f"set the encoder's output_size to {features.shape[-1]}."
            )
        return features

    def pool(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """`(batch, length, dim)` or `(batch, dim, height, width)` to `(batch, dim)`."""
        if hidden.dim() == 4:
            return hidden.mean((-2, -1))
        if self.pooling == "cls":
            return hidden[:, 0]
        if mask is not None and mask.shape[1] != hidden.shape[1]:  # audio, shortened by the model
            if hasattr(self.model, "_get_feature_vector_attention_mask"):
                mask = self.model._get_feature_vector_attention_mask(hidden.shape[1], mask)
            else:  # an even stride, as whisper's
                mask = nn.functional.interpolate(mask.unsqueeze(1).float(), hidden.shape[1]).squeeze(1)
        return masked_mean(hidden, mask)


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


def build_encoder(modality: str, options: dict[str, Any]) -> nn.Module:
    """The encoder of one modality. `options` is completed in place with what a checkpoint must know to rebuild it.

    Raises:
        ValueError: the model cannot be built or its weights cannot be loaded, whatever the library's own error.
    """
    config = build_encoder_config(modality, options)
    try:
        encoder = ENCODERS[options["type"]](config)
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
