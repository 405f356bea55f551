"""Batches that lack some modalities, to see what a trained model makes of the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from ..ground.suggestion import check_name
from .transforms.base import Value

ABSENCE = ("modality_mask", "zero_input")


def zero_input(value: Value) -> Value:
    """A modality's input with zeros for its data; of a dict, masks stay as they are, and token ids become 0."""
    if isinstance(value, dict):
        return {key: tensor if "mask" in key else torch.zeros_like(tensor) for key, tensor in value.items()}
    return torch.zeros_like(value)


class WithoutModalities:
    """A collator whose batches lack some modalities in every sample.

    Args:
        collator: makes the batch, such as [`MultimodalDataCollator`].
        modalities: all names, in the order of the model.
        absent: those that are taken away; none or all are fine too.
        absence: `modality_mask` marks the modality as absent, so that its feature is zero; `zero_input` sets the
            input tensor to zero and says nothing to the model, as in the paper's test of missing modalities. What
            zeros mean depends on the processor: in a log spectrogram they are loud (see its `zeros`).

    Raises:
        ValueError: an unknown modality or absence.
    """

    def __init__(
        self,
        collator: Callable[[list[Any]], dict[str, Any]],
        modalities: Sequence[str],
        absent: Iterable[str],
        absence: str = "modality_mask",
    ):
        self.collator = collator
        self.modalities = list(modalities)
        self.absent = set(absent)
        self.absence = absence
        if not self.absent <= set(self.modalities):
            raise ValueError(f"expected some of the modalities {self.modalities}, found {sorted(self.absent)}.")
        check_name("absence", absence, ABSENCE)

    def __call__(self, samples: list[Any]) -> dict[str, Any]:
        """The batch of the samples, without the absent modalities."""
        batch = self.collator(samples)
        if self.absence == "zero_input":
            return {name: zero_input(value) if name in self.absent else value for name, value in batch.items()}
        present = torch.tensor([name not in self.absent for name in self.modalities]).expand(len(samples), -1)
        return {**batch, "modality_mask": batch["modality_mask"] & present if "modality_mask" in batch else present}
