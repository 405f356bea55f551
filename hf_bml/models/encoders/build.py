"""The encoders by name, and building one from its options."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, fields
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from ...ground.declared import check_required
from ...ground.hub_failure import not_loaded
from ...ground.suggestion import NOTHING, Registry, check_options
from .base import Encoder
from .from_transformers import TransformersEncoder
from .image import ConvEncoder, TimmEncoder
from .lstm import LSTMEncoder
from .mlp import MLPEncoder
from .multi_window import MultiWindowEncoder
from .sequence import SequenceEncoder
from .xvector import XVectorEncoder

POSITION_TABLES = ("position_embeddings", "position_embedding", "embed_positions", "wpe")  # in transformers' models

ENCODERS: Registry[type[Encoder]] = Registry(
    "encoder type",
    Encoder,
    "hf_bml.models.ENCODERS",
    {
        "timm": TimmEncoder,
        "transformers": TransformersEncoder,
        "sequence": SequenceEncoder,
        "conv": ConvEncoder,
        "xvector": XVectorEncoder,
        "mlp": MLPEncoder,
        "multi_window": MultiWindowEncoder,
        "lstm": LSTMEncoder,
    },
)


def build_encoder_config(modality: str, options: Any, also: Mapping[str, Any] = NOTHING) -> Any:
    """The config dataclass of one modality's encoder from a dict with `type` and that type's options.

    Args:
        modality: its name, for messages.
        options: the dict.
        also: types that are valid beside ENCODERS, whose values have a `config_class`, too.

    Raises:
        ValueError: unknown type or option (the closest valid one is named), missing option, value out of range.
    """
    where = f"Encoder of modality {modality!r}"
    if not isinstance(options, Mapping):
        raise ValueError(
            f"{where}: expected a dict with `type`, one of {[*also, *ENCODERS]}, and that type's options, found "
            f"{options!r}. For example {{'type': 'conv', 'in_channels': 1}}."
        )
    options = dict(options)
    kind = options.pop("type", None)
    try:
        config_class = ENCODERS.find(kind, also).config_class
        check_options(f"type {kind!r}", options, [f.name for f in fields(config_class)])
        check_required(kind, config_class, options)
        return config_class(**options)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def encoder_class(modality: str, kind: str, staged: bool) -> type[Encoder]:
    """The class of an encoder of a known type; ValueError if it must run stage by stage and cannot."""
    found = ENCODERS[kind]
    if not staged:
        return found
    if found.staged_class() is None:
        able = [name for name, each in ENCODERS.items() if each.staged_class() is not None]
        raise ValueError(
            f"Encoder of modality {modality!r}: type {kind!r} does not run stage by stage, which this interaction "
            f"needs. Use one of {able}, or interaction: cross_attention."
        )
    return found.staged_class()


def build_encoder(modality: str, options: dict[str, Any], staged: bool = False) -> Encoder:
    """The encoder of one modality. `options` is completed in place with what a checkpoint must know to rebuild it.

    Args:
        modality: its name, for messages.
        options: the encoder's config, with its `type`.
        staged: whether the encoder must run stage by stage.

    Raises:
        ValueError: the model cannot be built or its weights cannot be loaded, whichever error the library raises.
    """
    config = build_encoder_config(modality, options)
    kind = encoder_class(modality, options["type"], staged)
    try:
        encoder = kind(config)
    except Exception as error:
        source = options.get("model") or options.get("architecture")
        if source is not None and isinstance(error, OSError):
            raise ValueError(f"Encoder of modality {modality!r}: {not_loaded('the model', source, error)}") from error
        what = options["type"] if source is None else f"{options['type']} model {source!r}"
        raise ValueError(
            f"Encoder of modality {modality!r}: the {what} cannot be built. {type(error).__name__}: {error} "
            "Check its options, and the id or folder, network and login if it comes from the Hub."
        ) from error
    options.update(asdict(config))
    return encoder


def expected_input(modality: str, options: Mapping[str, Any], wanted: Collection[str]) -> dict[str, Any]:
    """What a pretrained encoder was trained on, as options of its modality's processor; recipes take it by themselves.

        {"type": "frames", **expected_input("image", encoder, ["size", "mean", "std"])}
        {"type": "tokens", **expected_input("text", encoder, ["tokenizer"])}

    Args:
        modality: its name, for messages.
        options: the encoder's, with its `type`.
        wanted: see [`Encoder.expected_input`].

    Returns:
        those that are known; nothing of random weights.

    Raises:
        ValueError: invalid options, or what is wanted is not written down where the weights are from.
    """
    config = build_encoder_config(modality, options)
    try:
        return ENCODERS[options["type"]].expected_input(config, wanted)
    except (KeyError, OSError, ValueError) as error:
        raise ValueError(
            f"modality {modality!r}: expected {list(wanted)} of what the encoder was pretrained on beside its "
            f"weights, found: {error} Give them to the processor."
        ) from error


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
