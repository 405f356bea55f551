"""Configuration of a multimodal model: one encoder config per modality, how they are fused, what is predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any, ClassVar

from transformers import PreTrainedConfig

from ..suggestion import did_you_mean


@dataclass
class TimmEncoderConfig:
    """A timm model as encoder of images, spectrograms or optical flow; clips are averaged over frames.

    Args:
        architecture: timm model name, such as `resnet18`.
        in_channels: channels of the input: 1 spectrogram, 2 flow, 3 RGB.
        pretrained: start from timm's pretrained weights (needs the Hub or a local cache).
        model_args: further keywords of the timm model, such as `{"channels": [8, 16, 32, 64]}` for a thin ResNet.
    """

    architecture: str
    in_channels: int = 3
    pretrained: bool = False
    model_args: dict[str, Any] = field(default_factory=dict)


@dataclass
class TransformersEncoderConfig:
    """A transformers model (`AutoModel`) as encoder of text, audio or images.

    Args:
        model: Hub id or local folder; its configuration is stored here when the model is built.
        config: the model's configuration as a dict with `model_type`, instead of `model` or to override it.
        pretrained: start from the weights of `model`.
        pooling: `"mean"` over the positions that are not padding, or `"cls"`, the first position.
    """

    model: str | None = None
    config: dict[str, Any] | None = None
    pretrained: bool = False
    pooling: str = "mean"

    def __post_init__(self) -> None:
        if self.pooling not in ("mean", "cls"):
            raise ValueError(f"pooling must be 'mean' or 'cls', found {self.pooling!r}.")
        if self.model is None and (self.config is None or "model_type" not in self.config):
            raise ValueError(
                "A transformers encoder needs `model` (a Hub id or folder) or `config` with a `model_type`, "
                f"found model={self.model!r}, config={self.config!r}."
            )
        if self.pretrained and self.model is None:
            raise ValueError("pretrained: true needs `model`, the Hub id or folder that holds the weights.")


@dataclass
class SequenceEncoderConfig:
    """A small transformer encoder over pre-extracted feature sequences `(time, dim)` or vectors `(dim,)`.

    Args:
        input_size: dimension of an input feature.
        hidden_size: width, a multiple of `num_heads`.
        num_layers: transformer layers; 0 leaves a linear projection and the mean over time.
        num_heads: attention heads.
        feedforward_size: width of the feed-forward part; default four times `hidden_size`.
        dropout: in [0, 1).
    """

    input_size: int
    hidden_size: int = 128
    num_layers: int = 2
    num_heads: int = 4
    feedforward_size: int | None = None
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size {self.hidden_size} must be a multiple of num_heads {self.num_heads}.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), found {self.dropout!r}.")


@dataclass
class ConvEncoderConfig:
    """A small convolutional stack for small images and spectrograms; clips are averaged over frames.

    Every layer is a 3x3 convolution, batch normalisation, ReLU and 2x2 max pooling (an odd last row or column is
    kept); then the global average.

    Args:
        in_channels: channels of the input.
        channels: output channels of each layer; the last is the feature size.
    """

    in_channels: int = 1
    channels: Sequence[int] = (8, 16, 32, 64)

    def __post_init__(self) -> None:
        self.channels = list(self.channels)
        if not self.channels or min(self.channels) < 1:
            raise ValueError(f"channels must be a non-empty list of positive sizes, found {self.channels!r}.")


ENCODER_CONFIGS = {
    "timm": TimmEncoderConfig,
    "transformers": TransformersEncoderConfig,
    "sequence": SequenceEncoderConfig,
    "conv": ConvEncoderConfig,
}


def build_encoder_config(modality: str, options: Mapping[str, Any]) -> Any:
    """The config dataclass of one modality's encoder from a dict with `type` and that type's options.

    Raises:
        ValueError: unknown type or option (the closest valid one is named), missing option, value out of range.
    """
    options = dict(options)
    kind = options.pop("type", None)
    if kind not in ENCODER_CONFIGS:
        raise ValueError(
            f"Encoder of modality {modality!r}: `type` must be one of {list(ENCODER_CONFIGS)}, found {kind!r}."
            f"{did_you_mean(kind, ENCODER_CONFIGS)}"
        )
    config_class = ENCODER_CONFIGS[kind]
    valid = {f.name: f for f in fields(config_class)}
    for key in options:
        if key not in valid:
            hint = did_you_mean(key, valid)
            raise ValueError(
                f"Encoder of modality {modality!r}: type {kind!r} has no option {key!r}.{hint} "
                f"Its options are: {list(valid)}."
            )
    for name, f in valid.items():
        if f.default is MISSING and f.default_factory is MISSING and name not in options:
            raise ValueError(f"Encoder of modality {modality!r}: type {kind!r} needs the option {name!r}.")
    try:
        return config_class(**options)
    except ValueError as error:
        raise ValueError(f"Encoder of modality {modality!r}: {error}") from error


class MultimodalConfig(PreTrainedConfig):
    r"""Configuration of [`MultimodalForClassification`].

    Args:
        modalities (`dict[str, dict]`): encoder config per modality, each with a `type` (`timm`, `transformers`,
            `sequence` or `conv`) and that type's options. The order is the modality order everywhere.
        modality_order (`list[str]`, *optional*): the names of `modalities` in that order; kept because `config.json`
            sorts its keys.
        fusion (`str`): `"concat"` or `"sum"`.
        head_hidden_sizes (`list[int]`): hidden layers of the head; empty for a linear head.
        head_dropout (`float`): dropout before every layer of the head, in [0, 1).
        bias_split (`dict[str, float]`, *optional*): the share of the linear concat head's bias that counts for each
            modality's own prediction (paper Table 14); default 1 / modalities.
        num_labels, id2label, label2id: as in every transformers config.

    Example:

    ```python
    >>> from hf_bml import MultimodalConfig
    >>> config = MultimodalConfig(
    ...     modalities={
    ...         "audio": {"type": "timm", "architecture": "resnet18", "in_channels": 1},
    ...         "visual": {"type": "timm", "architecture": "resnet18", "in_channels": 3},
    ...     },
    ...     num_labels=6,
    ... )
    >>> list(config.modalities)
    ['audio', 'visual']

    ```
    """

    model_type = "multimodal"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["features", "keep_mask"]

    modalities: dict[str, Any] | None = None
    modality_order: list[str] | None = None
    fusion: str = "concat"
    head_hidden_sizes: list[int] | None = None
    head_dropout: float = 0.0
    bias_split: dict[str, float] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        encoders = self.modalities or {}
        self.modality_order = list(self.modality_order or encoders)
        if sorted(self.modality_order) != sorted(encoders):
            raise ValueError(
                f"modality_order must hold the names of modalities {list(encoders)}, found {self.modality_order}."
            )
        self.modalities = {
            name: {"type": encoders[name].get("type"), **asdict(build_encoder_config(name, encoders[name]))}
            for name in self.modality_order
        }
        reserved = {"labels", "modality_mask", "modulate_features", "self"} & set(self.modalities)
        if reserved:
            raise ValueError(f"{sorted(reserved)} cannot be modality names: the model's forward uses these keywords.")
        self.head_hidden_sizes = list(self.head_hidden_sizes or [])
        self.head_dropout = float(self.head_dropout)
        if not 0 <= self.head_dropout < 1:
            raise ValueError(f"head_dropout must be in [0, 1), found {self.head_dropout!r}.")
        if self.bias_split is not None:
            if set(self.bias_split) != set(self.modalities):
                raise ValueError(
                    f"bias_split must name every modality {list(self.modalities)}, found {list(self.bias_split)}."
                )
            if self.fusion != "concat" or self.head_hidden_sizes:
                raise ValueError("bias_split applies to the linear concat head: fusion='concat', no hidden sizes.")
        super().__post_init__(**kwargs)
