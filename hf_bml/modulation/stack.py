"""Several modulations called as one, by the trainer and by the model."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from operator import or_
from typing import Any

import torch
from torch import Tensor

from .base import EXCLUSIVE, PHASES, Modulation
from .step import AUXILIARY, JOINT, UNIMODAL, Gradients, MicroBatch, Needs, Step, View


class ModulationStack:
    """Several modulations called as one, in the order of their phases, and by name within one.

    Args:
        modulations: the modulations; each name at most once, and one at most of every exclusive phase.
        modalities: modality names, in the model's order.

    Raises:
        ValueError: a name is given twice, or two methods exclude each other.
    """

    def __init__(self, modulations: Iterable[Modulation], modalities: Sequence[str]):
        self.modulations = sorted(modulations, key=lambda each: (PHASES.index(each.phase), each.name))
        self.modalities = tuple(modalities)
        names = [modulation.name for modulation in self.modulations]
        if len(set(names)) != len(names):
            raise ValueError(f"Each modulation can be used once, found {names}.")
        for phase, count in Counter(modulation.phase for modulation in self.modulations).items():
            if phase in EXCLUSIVE and count > 1:
                raise ValueError(
                    f"{' and '.join(self.in_phase(phase))} exclude each other ({phase}): use one of them."
                )
        replacing = self.in_phase("replace_losses")
        with_losses = [m.name for m in self.modulations if type(m).forward_losses is not Modulation.forward_losses]
        adding = [name for name in with_losses if name not in replacing]
        if replacing and adding:
            raise ValueError(
                f"{' and '.join(adding)} adds losses to those that {replacing[0]} replaces. Use one of them."
            )
        for modulation in self.modulations:
            for phase, reason in modulation.excludes.items():
                if others := [name for name in self.in_phase(phase) if name != modulation.name]:
                    found = " and ".join([modulation.name, *others])
                    raise ValueError(f"{found} exclude each other: {reason} Use one of them.")
        if len(self.planners) > 1:
            raise ValueError(f"{' and '.join(m.name for m in self.planners)} both plan epochs: use one of them.")
        for modulation in self.modulations:
            modulation.bind(modalities)
        self.needs = reduce(or_, (modulation.needs(self.modalities) for modulation in self.modulations), Needs())
        self.active: list[Modulation] = []
        self.step = Step(self.modalities)
        self.batch: MicroBatch | None = None
        self._planned_keep: Tensor | None = None

    def __iter__(self) -> Iterator[Modulation]:
        return iter(self.modulations)

    def who(self, need: str) -> list[str]:
        """The names of the methods that have a need, such as `gradients`."""
        return [m.name for m in self.modulations if vars(m.needs(self.modalities))[need]]

    def in_phase(self, phase: str) -> list[str]:
        """The names of the methods that act in a phase."""
        return [m.name for m in self.modulations if m.phase == phase]

    @property
    def planners(self) -> list[Modulation]:
        """The method that plans epochs; at most one."""
        return [m for m in self.modulations if m.plans_epochs]

    def reset(self) -> None:
        """Clears the state of an earlier training."""
        self.active, self.batch, self.step = [], None, Step(self.modalities)
        for modulation in self.modulations:
            modulation.reset()

    def begin_step(self, step: Step) -> None:
        """Called before the first micro-batch of an optimizer step: finds the active modulations, and tells them."""
        self.step = step
        self.active = [modulation for modulation in self.modulations if modulation.is_active(step)]
        for modulation in self.active:
            modulation.begin_step(step)

    def begin_micro_batch(self, batch: MicroBatch, planned_keep: Tensor | None = None) -> None:
        """Takes what the trainer knows of a micro-batch: labels, loss, task, rows; and the plan's modalities."""
        self.batch, self._planned_keep = batch, planned_keep

    @torch.compiler.disable
    def keep_modalities(self, view: View) -> Tensor | None:
        """Called by the model; see [`Modulation.keep_modalities`]. The view's `modality_mask` if no method drops."""
        batch = self.batch
        batch.view, batch.unimodal_logits, batch.modality_mask = view, view.unimodal_logits, view.modality_mask
        batch.features, batch.inputs = view.features, view.inputs
        keep_mask = batch.modality_mask
        if self._planned_keep is not None:
            keep_mask = self._planned_keep if keep_mask is None else keep_mask & self._planned_keep
        for modulation in self.active:
            keep_mask = modulation.keep_modalities(batch, keep_mask, self.step)
        return keep_mask

    @torch.compiler.disable
    def modulate_features(self, features: dict[str, Tensor], keep_mask: Tensor | None = None) -> dict[str, Tensor]:
        """Called by the model after `keep_modalities`; see [`Modulation.modulate_features`]."""
        for modulation in self.active:
            features = modulation.modulate_features(features, self.batch, keep_mask, self.step)
        return features

    @torch.compiler.disable
    def forward_losses(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Called by the model at the end of its forward; see [`Modulation.forward_losses`].

        Raises:
            ValueError: two methods give a loss of one name, or a name is reserved.
        """
        found: dict[str, Tensor] = {}
        for modulation in self.active:
            losses = modulation.forward_losses(features, self.batch, self.step)
            taken = [name for name in losses if name in found or name in (JOINT, AUXILIARY, UNIMODAL)]
            if taken:
                raise ValueError(
                    f"{modulation.name} gives a loss named {taken[0]!r}, which is already taken. Two methods "
                    "that train the same prediction cannot be used together."
                )
            found.update(losses)
        self.batch.view = None
        return found

    def modulate_losses(self, losses: dict[str, Tensor], output: Mapping[str, Any]) -> dict[str, Tensor]:
        """The losses by name after all active modulations."""
        self.batch.output = output
        for modulation in self.active:
            losses = modulation.modulate_losses(losses, self.batch, self.step)
        self.batch = None
        return losses

    def end_step(self, step: Step) -> None:
        """Called after the last micro-batch of an optimizer step."""
        for modulation in self.active:
            modulation.end_step(step)

    def modulate_gradients(self, gradients: Gradients) -> None:
        """Lets all active modulations change the gradients."""
        for modulation in self.active:
            modulation.modulate_gradients(gradients, self.step)

    def summary(self) -> dict[str, Any]:
        """What the run's record should hold, per modulation."""
        return {modulation.name: modulation.summary() for modulation in self.modulations}

    def logs(self) -> dict[str, Tensor]:
        """The logs of all modulations."""
        return {key: value for modulation in self.modulations for key, value in modulation.logs().items()}

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps, by the modulations' names."""
        return {modulation.name: modulation.state_dict() for modulation in self.modulations}

    def snapshots(self) -> list[Tensor]:
        """See [`Modulation.snapshots`]."""
        return [tensor for modulation in self.modulations for tensor in modulation.snapshots()]

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from `state_dict()`; a modulation without a state there starts from scratch, with a warning."""
        names = [modulation.name for modulation in self.modulations]
        if set(state) != set(names):
            warnings.warn(
                f"The checkpoint was written with the modulations {sorted(state)}, this training has {names}: what "
                "only one of them has starts from scratch or is dropped.",
                stacklevel=2,
            )
        for modulation in self.modulations:
            if modulation.name in state:
                modulation.load_state_dict(state[modulation.name])
