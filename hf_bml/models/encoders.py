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
            self.model = AutoModel.from_pretrained(config.model, config=model_config)
        else:
            self.model = AutoModel.from_config(model_config)
        config.config = {key: value for key, value in model_config.to_dict().items() if _is_plain(value)}
        self.pooling = config.pooling
        hidden_sizes = getattr(model_config, "hidden_sizes", None)
        self.output_size = hidden_sizes[-1] if hidden_sizes else model_config.get_text_config().hidden_size

    def forward(self, values: Tensor | None = None, **inputs: Tensor) -> Tensor:
        if values is not None:
            inputs = {self.model.main_input_name: values, **inputs}
        hidden = self.model(**inputs).last_hidden_state
        if hidden.dim() == 4:  # (batch, channels, height, width) of a convolutional model
            return hidden.mean((-2, -1))
        if self.pooling == "cls":
            return hidden[:, 0]
        mask = inputs.get("attention_mask")
        if mask is not None and mask.shape[1] != hidden.shape[1]:  # raw audio, shortened by the model
            mask = self.model._get_feature_vector_attention_mask(hidden.shape[1], mask)
        return masked_mean(hidden, mask)


def _is_plain(value: Any) -> bool:
    return isinstance(value, (str, int, float, bool, list, dict, type(None)))


ENCODERS = {
    "timm": TimmEncoder,
    "transformers": TransformersEncoder,
    "sequence": SequenceEncoder,
    "conv": ConvEncoder,
}


def build_encoder(modality: str, options: dict[str, Any]) -> nn.Module:
    """The encoder of one modality. `options` is completed in place with what a checkpoint must know to rebuild it."""
    config = build_encoder_config(modality, options)
    encoder = ENCODERS[options["type"]](config)
    if options["type"] == "transformers":
        options["config"] = config.config
    return encoder
