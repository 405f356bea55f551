"""Any model of transformers (`AutoModel`) as encoder."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, AutoConfig, AutoImageProcessor, AutoModel

from ...ground.suggestion import check_name, did_you_mean
from ..frozen import FrozenParts, check_freeze
from ..options import check_size
from .base import Encoder, mark_initialized
from .sequences import Tokens, frames_as_one_sequence, masked_mean, positions_as_tokens


@dataclass
class TransformersEncoderConfig:
    """A transformers model (`AutoModel`) as encoder of text, audio, images or video.

    Of an encoder-decoder model (whisper, t5), only the encoder is kept. Image models average clips `(batch, frames,
    channels, height, width)` over frames; video models get them as they are. A video model is one whose configuration
    has `num_frames` (videomae, timesformer) or that declares video, but no images, as its input.

    Usage: `modalities: {text: {type: transformers, model: google-bert/bert-base-uncased, pretrained: true}}`

    Args:
        model: Hub id or local folder; its configuration is stored here when the model is built.
        config: the model's configuration as a dict with `model_type`, instead of `model` or to override it.
        pretrained: start from the weights of `model`. Recipes then process the modality as these were trained; in
            Python see `hf_bml.models.expected_input`.
        pooling: `"mean"` over the positions that are not padding, or `"cls"`, the first position.
        output_size: size of the features, where the model's configuration does not tell it (`hidden_sizes`,
            `hidden_size` or `d_model`).
        freeze: parts that are not trained and stay in eval mode, by their names in the model, with `*` and `[0-5]`:
            `[embeddings, "encoder.layer.[0-5]"]` is the lower half of a BERT, `[feature_extractor]` the convolutions
            of wav2vec2 and HuBERT.
        attn_implementation: how attention is computed, such as `eager`, `sdpa` or `flash_attention_2`; default that
            of `from_pretrained(attn_implementation=...)`, else the model's own.
    """

    model: str | None = None
    config: dict[str, Any] | None = None
    pretrained: bool = False
    pooling: str = "mean"
    output_size: int | None = None
    freeze: list[str] = field(default_factory=list)
    attn_implementation: str | None = None

    def __post_init__(self) -> None:
        check_freeze(self.freeze)
        if self.output_size is not None:
            check_size("output_size", self.output_size)
        check_name("pooling", self.pooling, ("mean", "cls"))
        if not isinstance(self.attn_implementation, str | None):
            raise ValueError(f"attn_implementation must be a name such as 'sdpa', found {self.attn_implementation!r}.")
        if not isinstance(self.config, Mapping | None) or not isinstance(self.model, str | None):
            raise ValueError(
                "`model` must be a Hub id or folder and `config` a dict such as {'model_type': 'bert'}, "
                f"found model={self.model!r}, config={self.config!r}."
            )
        model_type = (self.config or {}).get("model_type")
        if self.model is None and model_type is None:
            raise ValueError(
                "A transformers encoder needs `model` (a Hub id or folder) or `config` with a `model_type`, "
                f"found model={self.model!r}, config={self.config!r}."
            )
        if model_type is not None and model_type not in list(CONFIG_MAPPING.keys()):
            raise ValueError(
                f"model_type must be one that transformers knows, found {model_type!r}."
                f"{did_you_mean(model_type, CONFIG_MAPPING.keys())} "
                "A newer model needs a newer transformers; list(transformers.CONFIG_MAPPING.keys()) has the names."
            )
        if self.pretrained and self.model is None:
            raise ValueError("pretrained: true needs `model`, the Hub id or folder that holds the weights.")


class TransformersEncoder(Encoder):
    """See `TransformersEncoderConfig`. Takes the keywords of the transformers model, or its main input."""

    config_class = TransformersEncoderConfig

    def __init__(self, config: TransformersEncoderConfig):
        super().__init__()
        on_meta = torch.empty(0).is_meta  # a checkpoint is being loaded: its weights follow
        overrides = dict(config.config or {})
        model_type = overrides.pop("model_type", None)
        if config.model is not None and model_type is None:
            model_config = AutoConfig.from_pretrained(config.model, **overrides)
        else:
            model_config = AutoConfig.for_model(model_type, **overrides)
        options: dict[str, Any] = {"dtype": torch.get_default_dtype()}  # the whole model's, not the stored one
        if config.attn_implementation is not None:
            options["attn_implementation"] = config.attn_implementation
        if config.pretrained and not on_meta:
            model = AutoModel.from_pretrained(config.model, config=model_config, **options)
        else:
            model = AutoModel.from_config(model_config, **options)
        mark_initialized(model)  # with DeepSpeed ZeRO-3, transformers itself does so on the main process only
        # A detector (detr) also counts as encoder-decoder, but its encoder does not take images.
        keep_encoder = model_config.is_encoder_decoder and model.main_input_name != "pixel_values"
        self.model = model.get_encoder() if keep_encoder else model
        self.frozen_parts = FrozenParts(self.model, config.freeze)
        kept = {key: value for key, value in model_config.to_dict().items() if _is_plain(value) and key != "dtype"}
        config.config = kept
        self.pooling = config.pooling
        self.takes_token_ids = self.model.main_input_name == "input_ids"
        self.output_size = self.token_size = config.output_size or hidden_size(self.model.config)
        self.averages_frames = self.model.main_input_name == "pixel_values" and not is_video_model(self.model)

    @classmethod
    def expected_input(cls, config: TransformersEncoderConfig, wanted: Collection[str]) -> dict[str, Any]:
        if not config.pretrained:
            return {}
        found = {name: config.model for name in ("tokenizer", "feature_extractor") if name in wanted}
        if not {"size", "mean", "std"} & set(wanted):
            return found
        images = AutoImageProcessor.from_pretrained(config.model).to_dict()
        return {name: value for name, value in {**found, **image_options(images)}.items() if name in wanted}

    def train(self, mode: bool = True) -> TransformersEncoder:
        super().train(mode)
        self.frozen_parts.freeze()
        return self

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
        try:
            hidden = getattr(self.model(**inputs), "last_hidden_state", None)  # not every model has one
        except ValueError as error:
            if "mask_length" not in str(error):
                raise
            raise ValueError(
                f"{error}. A clip is shorter than what SpecAugment masks at once: set the encoder's config: "
                "{mask_time_prob: 0}, or leave such clips out."
            ) from error
        name = self.model.config.model_type
        if hidden is None:
            raise ValueError(
                f"A {name!r} model returns no last_hidden_state, so it cannot be an encoder. Use the model of one "
                "of its parts, such as 'clip_vision_model' for 'clip'."
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
        if hasattr(self.model, "_get_feature_vector_attention_mask"):  # of audio models, such as wav2vec2
            return self.model._get_feature_vector_attention_mask(length, mask)
        return nn.functional.interpolate(mask.unsqueeze(1).float(), length).squeeze(1)  # an even stride, as whisper's


def hidden_size(config: Any) -> int:
    """Size of the last hidden state by the configuration of a transformers model, each of which has its own names."""
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


def image_options(images: Mapping[str, Any]) -> dict[str, Any]:
    """Size `[height, width]`, and mean and standard deviation in [0, 1], from the configuration of an image processor.

    Of those that resize to a larger size before they cut, the cut counts.

    Raises:
        ValueError: it scales to floats by another factor than 1 / 255, or has no size of two sides or of one.

    Example:
        >>> image_options({"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224},
        ...                "do_center_crop": True, "do_normalize": False})
        {'size': [224, 224], 'mean': [0.0, 0.0, 0.0], 'std': [1.0, 1.0, 1.0]}
    """
    crops = images.get("do_center_crop") and images.get("crop_size")
    size = (images.get("crop_size") if crops else images.get("size")) or {}
    sides = [size[key] for key in ("height", "width", "shortest_edge") if size.get(key)]
    factor = images.get("rescale_factor", 1 / 255) if images.get("do_rescale", True) else 1
    if not sides or abs(255 * factor - 1) > 1e-6:
        raise ValueError(f"expected an image processor that scales by 1/255 to a fixed size, found {dict(images)}.")
    normalizes = images.get("do_normalize", True)
    return {
        "size": sides if len(sides) == 2 else [sides[0], sides[0]],
        "mean": list(images["image_mean"]) if normalizes else [0.0] * 3,
        "std": list(images["image_std"]) if normalizes else [1.0] * 3,
    }


def is_video_model(model: nn.Module) -> bool:
    """Whether a transformers model takes clips `(batch, frames, channels, height, width)`, not single images."""
    kinds = model.input_modalities  # a string or several
    return "num_frames" in model.config.to_dict() or ("video" in kinds and "image" not in kinds)


def _is_plain(value: Any) -> bool:
    return isinstance(value, (str, int, float, bool, list, dict, type(None)))
