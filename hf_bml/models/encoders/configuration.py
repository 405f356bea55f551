"""Configurations of the encoders, one dataclass a type."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from transformers import CONFIG_MAPPING

from ...ground.suggestion import check_options, did_you_mean

TIMM_SOURCES = ("hf-hub:", "hf_hub:", "local-dir:")


def is_number(value: Any) -> bool:
    """Whether `value` is an int or float, not a bool."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_size(value: Any, least: int = 1) -> bool:
    """Whether `value` is an int of at least `least`, not a bool."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def check_size(name: str, value: Any, least: int = 1) -> None:
    """Raises ValueError unless `value` is a size."""
    if not is_size(value, least):
        raise ValueError(f"{name} must be an integer of at least {least}, found {value!r}.")


def check_fraction(name: str, value: Any) -> None:
    """Raises ValueError unless `value` is a number in [0, 1)."""
    if not is_number(value) or not 0 <= value < 1:
        raise ValueError(f"{name} must be in [0, 1), found {value!r}.")


def check_weight(name: str, value: Any) -> None:
    """Raises ValueError unless `value` is a finite number of at least 0."""
    if not is_number(value) or not 0 <= value < float("inf"):
        raise ValueError(f"{name} must be a number of at least 0, found {value!r}.")


def check_shift_fraction(value: Any) -> None:
    """Raises ValueError unless `value` is a share of channels that can move both ways, in (0, 0.5]."""
    if not is_number(value) or not 0 < value <= 0.5:
        raise ValueError(f"shift_fraction must be in (0, 0.5], found {value!r}.")


def check_architecture(name: Any) -> None:
    """Raises ValueError, naming the closest valid name, unless timm knows the architecture or it lies on the Hub."""
    import timm  # slow to import

    if not isinstance(name, str) or not (name.startswith(TIMM_SOURCES) or timm.is_model(name)):
        hint = did_you_mean(str(name).split(".")[0], timm.list_models())
        raise ValueError(
            f"architecture must be the name of a timm model, found {name!r}.{hint} "
            "timm.list_models('*resnet*') lists names; 'hf-hub:<id>' takes a model from the Hub."
        )


def size_list(name: str, values: Any) -> list[int]:
    """`values` as a list, checked: positive integers."""
    if isinstance(values, str) or not isinstance(values, Sequence) or not all(map(is_size, values)):
        raise ValueError(f"{name} must be a list of positive integers, such as [64, 32], found {values!r}.")
    return list(values)


@dataclass
class TimmEncoderConfig:
    """A timm model as encoder of images, spectrograms or optical flow; clips are averaged over frames.

    Args:
        architecture: timm model name, such as `resnet18` or, with a pretrained tag, `resnet18.a1_in1k`; or a model
            on the Hub, `hf-hub:<id>`.
        in_channels: channels of the input: 1 spectrogram, 2 flow, 3 RGB.
        pretrained: start from timm's pretrained weights (needs the Hub or a local cache).
        model_args: further keywords of the timm model, such as `{"channels": [8, 16, 32, 64]}` for a thin ResNet.
        temporal_shift: shift channels between the frames of a clip before each residual block of a ResNet (TSM).
        shift_fraction: share of the channels that moves in each direction, in (0, 0.5].
        partial_batch_norm: freeze all batch normalisation but the first layer (TSN); for pretrained weights.
        average_stem: with `pretrained`, give the first convolution the mean over RGB of its weights for every input
            channel (TSN's cross-modality initialisation of flow) instead of timm's own adaptation.
        dropout: of each frame's feature, or of each position's where these are asked for, in [0, 1); TSN has 0.8 for
            RGB and 0.7 for flow. Only for encoders that do not run stage by stage.
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

    def __post_init__(self) -> None:
        check_size("in_channels", self.in_channels)
        for option in ("temporal_shift", "partial_batch_norm", "average_stem"):
            if not isinstance(getattr(self, option), bool):
                raise ValueError(f"{option} must be true or false, found {getattr(self, option)!r}.")
        check_shift_fraction(self.shift_fraction)
        check_fraction("dropout", self.dropout)
        check_architecture(self.architecture)


@dataclass
class TransformersEncoderConfig:
    """A transformers model (`AutoModel`) as encoder of text, audio, images or video.

    Of an encoder-decoder model (whisper, t5), only the encoder is kept. Image models average clips `(batch, frames,
    channels, height, width)` over frames; video models get them as they are. A video model is one whose configuration
    has `num_frames` (videomae, timesformer) or that declares video, but no images, as its input.

    Args:
        model: Hub id or local folder; its configuration is stored here when the model is built.
        config: the model's configuration as a dict with `model_type`, instead of `model` or to override it.
        pretrained: start from the weights of `model`.
        pooling: `"mean"` over the positions that are not padding, or `"cls"`, the first position.
        output_size: size of the features, where the model's configuration does not tell it (`hidden_sizes`,
            `hidden_size` or `d_model`).
    """

    model: str | None = None
    config: dict[str, Any] | None = None
    pretrained: bool = False
    pooling: str = "mean"
    output_size: int | None = None

    def __post_init__(self) -> None:
        if self.output_size is not None:
            check_size("output_size", self.output_size)
        if self.pooling not in ("mean", "cls"):
            raise ValueError(f"pooling must be 'mean' or 'cls', found {self.pooling!r}.")
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


@dataclass
class SequenceEncoderConfig:
    """A small transformer encoder over pre-extracted feature sequences `(time, dim)`, vectors `(dim,)`, or frames with
    positions `(frames, positions, dim)`, which become one sequence.

    Args:
        input_size: dimension of an input feature.
        hidden_size: width, a multiple of `num_heads`.
        num_layers: transformer layers; 0 leaves a linear projection and the mean over time.
        num_heads: attention heads.
        feedforward_size: width of the feed-forward part; default four times `hidden_size`.
        dropout: in [0, 1).
        positions: add sinusoidal encodings of the time (of the frame, where there are positions).
    """

    input_size: int
    hidden_size: int = 128
    num_layers: int = 2
    num_heads: int = 4
    feedforward_size: int | None = None
    dropout: float = 0.1
    positions: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.positions, bool):
            raise ValueError(f"positions must be true or false, found {self.positions!r}.")
        for name in ("input_size", "hidden_size", "num_heads"):
            check_size(name, getattr(self, name))
        check_size("num_layers", self.num_layers, least=0)
        if self.feedforward_size is not None:
            check_size("feedforward_size", self.feedforward_size)
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size {self.hidden_size} must be a multiple of num_heads {self.num_heads}.")
        check_fraction("dropout", self.dropout)


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
        check_size("in_channels", self.in_channels)
        self.channels = size_list("channels", self.channels)
        if not self.channels:
            raise ValueError("channels must be a list of at least one size, such as [8, 16], found [].")


@dataclass
class XVectorEncoderConfig:
    """The time-delay network of x-vectors over spectrograms or MFCC `(1, num_bins, frames)`, at least 15 frames.

    Five dilated convolutions over time, the mean and the standard deviation over time, and two linear layers.

    Args:
        num_bins: frequencies or coefficients of the input; the original has 24.
        hidden_size: channels of the first four layers, and size of the feature.
        pooled_size: channels of the fifth layer.
    """

    num_bins: int
    hidden_size: int = 512
    pooled_size: int = 1500

    def __post_init__(self) -> None:
        for name in ("num_bins", "hidden_size", "pooled_size"):
            check_size(name, getattr(self, name))


@dataclass
class MLPEncoderConfig:
    """Linear layers over vectors `(dim,)`, such as i-vectors; each with batch normalisation and ReLU.

    Args:
        input_size: dimension of the input.
        hidden_sizes: of each layer; the last is the feature size.
    """

    input_size: int
    hidden_sizes: Sequence[int] = (512,)

    def __post_init__(self) -> None:
        check_size("input_size", self.input_size)
        self.hidden_sizes = size_list("hidden_sizes", self.hidden_sizes)
        if not self.hidden_sizes:
            raise ValueError("hidden_sizes must be a list of at least one size, such as [512], found [].")


@dataclass
class MultiWindowEncoderConfig:
    """Our surrogate for MWTSM (paper Table 8), not the cited method: spectrograms of several windows, one ResNet.

    The same timm ResNet sees each window's log spectrogram, and before each residual block shifts channels along
    time. The feature is the mean over windows, weighted by a learned softmax.

    Args:
        num_windows: spectrograms of the input `(num_windows, frequencies, frames)`.
        architecture: a timm ResNet.
        shift_fraction: share of the channels that moves in each direction, in (0, 0.5].
        model_args: further keywords of the timm model, such as `{"channels": [8, 16, 32, 64]}` for a thin ResNet.
    """

    num_windows: int = 3
    architecture: str = "resnet18"
    shift_fraction: float = 1 / 8
    model_args: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_size("num_windows", self.num_windows)
        check_architecture(self.architecture)
        check_shift_fraction(self.shift_fraction)


@dataclass
class LSTMEncoderConfig:
    """An LSTM over token ids: word vectors learned from scratch, one layer, one direction.

    Args:
        vocab_size: number of token ids, of which 0 is the padding.
        embedding_size: width of the word vectors.
        hidden_size: width of the states, the feature size.
        dropout: of the word vectors, in [0, 1).
    """

    vocab_size: int
    embedding_size: int = 200
    hidden_size: int = 256
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("vocab_size", "embedding_size", "hidden_size"):
            check_size(name, getattr(self, name))
        check_fraction("dropout", self.dropout)


def check_name(option: str, value: Any, valid: Iterable[str]) -> None:
    """Raises ValueError, naming the closest valid name, unless `value` is one of `valid`."""
    if not isinstance(value, str) or value not in valid:
        raise ValueError(f"{option} must be one of {list(valid)}, found {value!r}.{did_you_mean(value, valid)}")


ENCODER_CONFIGS = {
    "timm": TimmEncoderConfig,
    "transformers": TransformersEncoderConfig,
    "sequence": SequenceEncoderConfig,
    "conv": ConvEncoderConfig,
    "xvector": XVectorEncoderConfig,
    "mlp": MLPEncoderConfig,
    "multi_window": MultiWindowEncoderConfig,
    "lstm": LSTMEncoderConfig,
}


def build_encoder_config(modality: str, options: Any, classes: Mapping[str, type] = ENCODER_CONFIGS) -> Any:
    """The config dataclass of one modality's encoder from a dict with `type` and that type's options.

    Args:
        modality: its name, for messages.
        options: the dict.
        classes: by type.

    Raises:
        ValueError: unknown type or option (the closest valid one is named), missing option, value out of range.
    """
    if not isinstance(options, Mapping):
        raise ValueError(
            f"Encoder of modality {modality!r}: expected a dict with `type`, one of {list(classes)}, and that "
            f"type's options, found {options!r}. For example {{'type': 'conv', 'in_channels': 1}}."
        )
    options = dict(options)
    kind = options.pop("type", None)
    if not isinstance(kind, str) or kind not in classes:
        raise ValueError(
            f"Encoder of modality {modality!r}: `type` must be one of {list(classes)}, found {kind!r}."
            f"{did_you_mean(kind, classes)}"
        )
    config_class = classes[kind]
    valid = {f.name: f for f in fields(config_class)}
    check_options(f"Encoder of modality {modality!r}: type {kind!r}", options, valid)
    for name, f in valid.items():
        if f.default is MISSING and f.default_factory is MISSING and name not in options:
            raise ValueError(f"Encoder of modality {modality!r}: type {kind!r} needs the option {name!r}.")
    try:
        return config_class(**options)
    except ValueError as error:
        raise ValueError(f"Encoder of modality {modality!r}: {error}") from error
