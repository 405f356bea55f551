"""What trainer, preflight, cards and commands may ask of a model, and what its forward shows to modulations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import and_
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..ground.task import CLASSIFICATION, Task


class ModelFace:
    """Base class with defaults; our models and `BalancedModel` have it, another model is adapted by `face_of`.

    Attributes:
        encoders: per modality its modules, in modality order; their parameters are the paper's theta^m.
        task: the loss and the score of its predictions.
        gradient_enters_by_features: whether the loss reaches an encoder's parameters only through the feature that
            modulations see.
        can_be_compiled: whether `torch.compile` has an effect.
        auxiliary_heads: classifiers of single modalities; empty if there are none.
        trains_own_heads: whether their losses reach the encoders.
    """

    encoders: Mapping[str, nn.Module]
    task: ClassVar[Task] = CLASSIFICATION
    gradient_enters_by_features: ClassVar[bool] = True
    can_be_compiled: ClassVar[bool] = True
    trains_own_heads: ClassVar[bool] = False
    auxiliary_heads: Mapping[str, nn.Module]  # no default: it would hide a submodule of this name

    @property
    def input_columns(self) -> list[str]:
        """The columns of a dataset that the model reads beside labels."""
        return list(self.encoders)

    @property
    def required_columns(self) -> list[str]:
        """Those of them that every dataset must have."""
        return list(self.encoders)

    @property
    def num_labels(self) -> int:
        """Classes that the model tells apart."""
        return self.config.num_labels

    @property
    def wrapped_model(self) -> nn.Module | None:
        """The model that is saved in the place of this one; None if it is this one."""
        return None

    @property
    def balance_arguments(self) -> dict[str, Any] | None:
        """What wraps `wrapped_model` again in the same way; None if there is none."""
        return None

    def head_parameters(self) -> list[nn.Parameter]:
        """The parameters that predict from the features; they belong to no modality."""
        owned = {id(p) for encoder in self.encoders.values() for p in encoder.parameters()}
        owned |= {id(p) for head in self.auxiliary_heads.values() for p in head.parameters()}
        return [p for p in self.parameters() if id(p) not in owned]

    def own_feature(self, modality: str, feature: Any) -> Any:
        """The part of a modality's features `(batch, ...)` that its own classifier sees."""
        return feature

    def why_not_fuse(self) -> str | None:
        """Why the joint prediction is not a function of the modalities' features; None if it is."""
        return None

    def why_no_head_graph(self) -> str | None:
        """Why a modality's share of the joint head cannot be trained; None if it can."""
        return self.why_not_fuse()

    def why_no_unimodal_graph(self) -> str | None:
        """Why a modality's own prediction cannot have a graph; None if it can."""
        return None if self.trains_own_heads else self.why_no_head_graph()


class Modulating(Protocol):
    """What a model's forward takes as `modulation`: the trainer's `ModulationStack`, or anything that has these."""

    def keep_modalities(self, view: ForwardView) -> Tensor | None:
        """The modalities that the joint prediction of each sample sees, bool `(batch, modalities)`; None for all."""

    def modulate_features(self, features: dict[str, Tensor], keep_mask: Tensor | None) -> dict[str, Tensor]:
        """What the head sees in the place of `features`; called after `keep_modalities`."""

    def forward_losses(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Further losses by name, 0-d; called last."""


@dataclass
class ForwardView:
    """What a model's forward shows to modulations, valid while it runs.

    Attributes:
        unimodal_logits: per modality `(batch, ...)`, detached, float32.
        modality_mask: bool `(batch, modalities)`, False where a sample lacks a modality; None if none does.
        features: per modality `(batch, ..., dim)`, as the head sees them without modulation, with a graph.
        inputs: per modality, as its encoder got them.
        own_logits: per modality, of its own classifier, with a graph; empty if there are none.
        split: the head's exact split of features into logits by modality; None if it has none.
        predict: logits from features, a keep mask, and whether the head's parameters are detached.
    """

    unimodal_logits: dict[str, Tensor]
    modality_mask: Tensor | None
    features: dict[str, Tensor]
    inputs: dict[str, Any]
    predict: Callable[[dict[str, Tensor], Tensor | None, bool], Tensor]
    own_logits: dict[str, Tensor] = field(default_factory=dict)
    split: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None

    def unimodal_graph(self) -> dict[str, Tensor]:
        """The unimodal logits with a graph: of the own classifiers, else the exact split, else by zero-out."""
        return self.own_logits or self.head_graph()

    def head_graph(self) -> dict[str, Tensor]:
        """What the joint head makes of each modality: its exact split, else by zero-out."""
        if self.split is not None:
            return self.split(self.features)
        return {name: self.fuse({name: feature}) for name, feature in self.features.items()}

    def fuse(self, features: Mapping[str, Tensor], keep: Tensor | None = None, detached: bool = False) -> Tensor:
        """Logits from other features; those that are left out are zero. See `MicroBatch.fuse`."""
        given = {
            name: features[name] if name in features else torch.zeros_like(own) for name, own in self.features.items()
        }
        present = None
        if len(features) < len(given):
            example = next(iter(given.values()))
            named = torch.tensor([name in features for name in self.features], device=example.device)
            present = named.expand(len(example), -1)
        masks = [mask for mask in (self.modality_mask, keep, present) if mask is not None]
        return self.predict(given, reduce(and_, masks) if masks else None, detached)


def call_detached(module: nn.Module, *arguments: Any) -> Any:
    """`module(*arguments)` with its parameters as constants: a gradient reaches the arguments only."""
    constants = {name: parameter.detach() for name, parameter in module.named_parameters()}
    return functional_call(module, constants, arguments)


class AdaptedModel(ModelFace):
    """The face of a user's own model, which has `encoders` and takes the trainer's `modulation`.

    Args:
        model: with `encoders`, a mapping from modality to module; what else of [`ModelFace`] it has is used.
    """

    input_columns = required_columns = wrapped_model = balance_arguments = None  # attributes, not properties

    def __init__(self, model: nn.Module):
        self._model = model
        self.encoders = model.encoders
        self.parameters = model.parameters
        columns = getattr(model, "input_columns", list(model.encoders))
        declared = ("task", "gradient_enters_by_features", "can_be_compiled", "trains_own_heads", "why_not_fuse")
        declared += ("why_no_head_graph", "why_no_unimodal_graph")
        defaults = {
            **{name: getattr(self, name) for name in declared},
            "input_columns": columns,
            "required_columns": columns,
            "wrapped_model": None,
            "balance_arguments": None,
            "auxiliary_heads": {},
        }
        for name, default in defaults.items():
            setattr(self, name, getattr(model, name, default))

    @property
    def num_labels(self) -> int:
        own = getattr(self._model, "num_labels", None)
        return self._model.config.num_labels if own is None else own


def face_of(model: nn.Module) -> ModelFace:
    """The face of a model: itself if it declares one, else the parts it has, with defaults for the rest.

    Raises:
        TypeError: the model has no encoders by modality.
    """
    if isinstance(model, ModelFace):
        return model
    if not isinstance(getattr(model, "encoders", None), Mapping | nn.ModuleDict):
        raise TypeError(
            "MultimodalBalancedTrainer needs a model with `encoders`, a mapping from modality to encoder, such as "
            f"MultimodalForClassification; found {type(model).__name__}. Wrap a model of another kind: "
            "balance(model, modalities={'vision': 'path.of.its.encoder', ...})."
        )
    return AdaptedModel(model)


def modality_names(model: nn.Module) -> Sequence[str]:
    """The model's modalities in its order."""
    return tuple(face_of(model).encoders)
