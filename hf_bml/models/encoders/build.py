"""Encoders with one interface: for any kind of input, `encoder(...)` returns `(batch, output_size)`.

Inputs are positional (the main input) or keywords; the caller picks by passing a tensor or a dict. What cross-modal
interactions need besides: `tokens(...)` returns a sequence instead of a vector, and CNNs run in stages.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedModel

from .configuration import build_encoder_config
from .image import ConvEncoder, StagedTimmEncoder, TimmEncoder, mark_initialized
from .lstm import LSTMEncoder
from .mlp import MLPEncoder
from .multi_window import MultiWindowEncoder
from .sequences import Tokens, frames_as_one_sequence, masked_mean, positions_as_tokens, sinusoidal_positions
from .xvector import XVectorEncoder

POSITION_TABLES = ("position_embeddings", "position_embedding", "embed_positions", "wpe")  # in transformers' models


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
        self.has_positions = config.positions

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """
        Args:
            values: `(batch, time, input_size)`, `(batch, input_size)`, or `(batch, frames, positions, input_size)`.
            mask: optional bool `(batch, time)` or `(batch, frames)`, False for padding; at least one per sample is
                True.
        """
        return self.tokens(values, mask).mean()

    def tokens(self, values: Tensor, mask: Tensor | None = None) -> Tokens:
        """The last hidden states `(batch, time, token_size)`; a vector is a sequence of one, and the positions of
        frames come one frame after the other. Arguments as of `forward`."""
        if values.dim() not in (2, 3, 4) or values.shape[-1] != self.input_size:
            raise ValueError(
                f"expected (batch, {self.input_size}), (batch, time, {self.input_size}) or (batch, frames, positions, "
                f"{self.input_size}), found {tuple(values.shape)}. Set the encoder's input_size to the feature's "
                "dimension."
            )
        hidden = self.projection(values)
        if values.dim() > 2 and self.has_positions:
            encodings = sinusoidal_positions(hidden.shape[1], hidden.shape[-1], hidden)
            hidden = hidden + (encodings if values.dim() == 3 else encodings.unsqueeze(1))
        frames = None
        if values.dim() == 4:
            hidden, mask, frames = frames_as_one_sequence(hidden.flatten(0, 1), hidden.shape[1], mask)
        hidden = hidden.unsqueeze(1) if values.dim() == 2 else hidden
        mask = None if mask is None else mask.bool()
        for layer in self.layers:
            hidden = layer(hidden, src_key_padding_mask=None if mask is None else ~mask)
        return Tokens(self.norm(hidden), mask, frames)


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
        self.takes_token_ids = self.model.main_input_name == "input_ids"
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

    def tokens(self, values: Tensor | None = None, mask: Tensor | None = None, **inputs: Tensor) -> Tokens:
        """The last hidden states `(batch, length, token_size)`, of all frames. Arguments as of `forward`."""
        frames, inputs = self._inputs(values, mask, inputs)
        hidden = self.encode(**inputs)
        if hidden.dim() == 4:
            hidden = positions_as_tokens(hidden)
        if frames is not None:
            return frames_as_one_sequence(hidden, frames, mask)
        valid = self._shortened(inputs.get("attention_mask"), hidden.shape[1])
        return Tokens(hidden, None if valid is None else valid.bool())

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
                f"A {name!r} model returns no last_hidden_state, so it is not an encoder. Use the model of one of its "
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


def token_limits(encoders: Mapping[str, nn.Module]) -> dict[str, tuple[int, int | None]]:
    """Of every encoder of token ids, by modality, how many ids it knows and how many tokens it takes at most.

    The latter is None where positions are not looked up in a table, as with rotary ones or in an LSTM.
    """
    limits = {}
    for name, encoder in encoders.items():
        for part in encoder.modules():
            if isinstance(part, LSTMEncoder):
                limits[name] = part.embedding.num_embeddings, None
            elif isinstance(part, PreTrainedModel) and part.main_input_name == "input_ids":
                tables = [
                    table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)
                    for path, table in part.named_modules()
                    if isinstance(table, nn.Embedding) and path.endswith(POSITION_TABLES)
                ]
                limits[name] = part.get_input_embeddings().num_embeddings, min(tables, default=None)
            else:
                continue
            break
    return limits


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
    "xvector": XVectorEncoder,
    "mlp": MLPEncoder,
    "multi_window": MultiWindowEncoder,
    "lstm": LSTMEncoder,
}

STAGED_ENCODERS = {"timm": StagedTimmEncoder, "conv": ConvEncoder}


def encoder_class(modality: str, kind: str, staged: bool) -> type[nn.Module]:
    """The class of an encoder of a known type; ValueError if it must run stage by stage and cannot."""
    classes = STAGED_ENCODERS if staged else ENCODERS
    if kind not in classes:
        raise ValueError(
            f"Encoder of modality {modality!r}: type {kind!r} does not run stage by stage, which this interaction "
            f"needs. Use one of {list(classes)}, or interaction: cross_attention."
        )
    return classes[kind]


def build_encoder(modality: str, options: dict[str, Any], staged: bool = False) -> nn.Module:
    """The encoder of one modality. `options` is completed in place with what a checkpoint must know to rebuild it.

    Args:
        modality: its name, for messages.
        options: the encoder's config, with its `type`.
        staged: whether the encoder must run stage by stage.

    Raises:
        ValueError: the model cannot be built or its weights cannot be loaded, for any error of the library.
    """
    config = build_encoder_config(modality, options)
    kind = encoder_class(modality, options["type"], staged)
    try:
        encoder = kind(config)
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
