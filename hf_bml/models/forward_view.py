"""What a model's forward and the modulations tell each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import and_
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call


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
        samples: of the batch, where that is not the length of the features.
        predict: logits from features, a keep mask, and whether the head's parameters are detached.
    """

    unimodal_logits: dict[str, Tensor]
    modality_mask: Tensor | None
    features: dict[str, Tensor]
    inputs: dict[str, Any]
    predict: Callable[[dict[str, Tensor], Tensor | None, bool], Tensor]
    own_logits: dict[str, Tensor] = field(default_factory=dict)
    split: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None
    samples: int | None = None

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
            samples = len(example) if self.samples is None else self.samples
            named = torch.tensor([name in features for name in self.features], device=example.device)
            present = named.expand(samples, -1)
        masks = [mask for mask in (self.modality_mask, keep, present) if mask is not None]
        return self.predict(given, reduce(and_, masks) if masks else None, detached)


def call_detached(module: nn.Module, *arguments: Any) -> Any:
    """`module(*arguments)` with its parameters as constants: a gradient reaches the arguments only."""
    constants = {name: parameter.detach() for name, parameter in module.named_parameters()}
    return functional_call(module, constants, arguments)
