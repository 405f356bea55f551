"""Several modulations called as one, by the trainer and by the model."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .base import BalanceState, MicroBatch, Modulation


class ModulationStack:
    """Several modulations called as one, in the given order.

    Args:
        modulations: the modulations; each name at most once.
        modalities: modality names, in the model's order.
    """

    def __init__(self, modulations: Iterable[Modulation], modalities: Sequence[str]):
        self.modulations = list(modulations)
        names = [modulation.name for modulation in self.modulations]
        if len(set(names)) != len(names):
            raise ValueError(f"Each modulation can be used once, found {names}.")
        for modulation in self.modulations:
            modulation.bind(modalities)
        self.active: list[Modulation] = []
        self.labels: Tensor | None = None
        self._batch: MicroBatch | None = None

    def __iter__(self) -> Iterator[Modulation]:
        return iter(self.modulations)

    def reset(self) -> None:
        """Forgets what an earlier training left behind."""
        self.active, self.labels, self._batch = [], None, None
        for modulation in self.modulations:
            modulation.reset()

    def begin_step(self, state: BalanceState) -> None:
        """Called before the first micro-batch of an optimizer step: finds who is active, and tells them."""
        self.active = [modulation for modulation in self.modulations if modulation.is_active(state)]
        for modulation in self.active:
            modulation.begin_step(state)

    def begin_micro_batch(self, labels: Tensor) -> None:
        """Brings the labels, which a Trainer with label smoothing or a loss of its own keeps from the model."""
        self.labels = labels

    @torch.compiler.disable
    def keep_modalities(
        self, unimodal_logits: dict[str, Tensor], modality_mask: Tensor | None = None
    ) -> Tensor | None:
        """Called by the model; see [`Modulation.keep_modalities`]. Returns `modality_mask` if nobody drops."""
        self._batch = MicroBatch(unimodal_logits, self.labels, modality_mask)
        keep_mask = modality_mask
        for modulation in self.active:
            keep_mask = modulation.keep_modalities(self._batch, keep_mask)
        return keep_mask

    @torch.compiler.disable
    def modulate_features(self, features: dict[str, Tensor], keep_mask: Tensor | None = None) -> dict[str, Tensor]:
        """Called by the model after `keep_modalities`; see [`Modulation.modulate_features`]."""
        for modulation in self.active:
            features = modulation.modulate_features(features, self._batch, keep_mask)
        return features

    def modulate_loss(self, loss: Tensor, output: Mapping[str, Any], labels: Tensor | None) -> Tensor:
        """The loss after all active modulations, in their order."""
        for modulation in self.active:
            loss = modulation.modulate_loss(loss, output, labels)
        return loss

    def modulate_gradients(self, parameters: Mapping[str, Sequence[nn.Parameter]], state: BalanceState) -> None:
        """Lets all active modulations change the gradients, in their order."""
        for modulation in self.active:
            modulation.modulate_gradients(parameters, state)

    def summary(self) -> dict[str, Any]:
        """Per modulation what the run's record should hold."""
        return {modulation.name: modulation.summary() for modulation in self.modulations}

    def logs(self) -> dict[str, Tensor]:
        """The logs of all modulations."""
        return {key: value for modulation in self.modulations for key, value in modulation.logs().items()}

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps, by the modulations' names."""
        return {modulation.name: modulation.state_dict() for modulation in self.modulations}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`; a modulation without a state there starts anew, with a warning."""
        names = [modulation.name for modulation in self.modulations]
        if set(state) != set(names):
            warnings.warn(
                f"The checkpoint was written with the modulations {sorted(state)}, this training has {names}: what "
                "only one of them has starts anew or ends here.",
                stacklevel=2,
            )
        for modulation in self.modulations:
            if modulation.name in state:
                modulation.load_state_dict(state[modulation.name])
