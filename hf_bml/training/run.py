"""What a modulation may ask for beside the training: see `modulation.step.Run`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Sized
from typing import Any

import numpy as np
import torch
from accelerate.utils import patch_environment
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import AutoModel, Trainer

from ..models.wrappers import without_adapter
from ..modulation import CopyLosses
from ..modulation.step import SampleLosses
from .epochs import loader_of
from .held_out import selected
from .side_training import surroundings_kept, train_copies
from .training_args import own_arguments


class TrainerRun:
    """The training of a trainer.

    Args:
        trainer: about to train.
    """

    def __init__(self, trainer: Trainer):
        self._trainer = trainer
        self.model = without_adapter(trainer.model)
        self.face = trainer.face
        self.task = trainer.face.task
        self.seed = trainer.args.seed

    @property
    def window(self) -> int:
        """See [`Run`](../modulation/step.py)."""
        return self._trainer.window(self._trainer.args.train_batch_size)

    def train_copies(
        self, losses: Sequence[Mapping[str, SampleLosses]], epochs: float | None = None
    ) -> dict[str, CopyLosses]:
        """See [`Run`](../modulation/step.py)."""
        return train_copies(self._trainer, losses, epochs)

    def trained_alone(self, modality: str) -> nn.Module:
        """See [`Run`](../modulation/step.py)."""
        folders = own_arguments(self._trainer.args).trained_alone or {}
        if modality not in folders:
            raise ValueError(
                f"A modulation needs a model of {modality!r} that was trained alone, but trained_alone names "
                f"{list(folders) or 'none'}. Train one (hf-bml probe RUN --alone) and set trained_alone: "
                f"{{{modality}: FOLDER}}."
            )
        # A resumed training loads it at another step; and FSDP's loader would leave it empty but for one process.
        with surroundings_kept(self._trainer.args.device), patch_environment(fsdp_cpu_ram_efficient_loading="false"):
            model = AutoModel.from_pretrained(folders[modality]).to(self._trainer.args.device)
        return model.requires_grad_(False).eval()

    @torch.no_grad()
    def collect(
        self, split: str, fields: Sequence[str], fraction: float = 1.0, modalities: Collection[str] | None = None
    ) -> dict[str, Tensor]:
        """See [`Run`](../modulation/step.py).

        Raises:
            ValueError: no such split, or a stream, whose samples have no order.
        """
        trainer = self._trainer
        rows, dataset = self._part(split, fraction)
        collected: dict[str, list[Tensor]] = {}
        model = trainer.model_wrapped
        was_training = model.training
        with surroundings_kept(trainer.args.device):
            model.eval()
            try:
                for batch in loader_of(trainer, dataset):
                    inputs = trainer._prepare_inputs(batch)
                    if modalities is not None:
                        inputs["modality_mask"] = self._mask(modalities, inputs)
                    with trainer.accelerator.autocast():
                        output = {**model(**inputs), "labels": inputs["labels"]}
                    found = trainer.accelerator.gather_for_metrics(flattened(output, fields))
                    for name, value in found.items():
                        collected.setdefault(name, []).append(value.cpu())
            finally:
                model.train(was_training)
        result = {name: torch.cat(values) for name, values in collected.items()}
        return {**result, "rows": rows} if "rows" in fields else result

    def _mask(self, modalities: Collection[str], inputs: Mapping[str, Any]) -> Tensor:
        """Bool `(batch, modalities)`: what a batch's samples have of some modalities."""
        labels, given = inputs["labels"], inputs.get("modality_mask")
        kept = torch.tensor([name in modalities for name in self.face.encoders], device=labels.device)
        return kept.expand(len(labels), -1) if given is None else given.bool() & kept

    def _part(self, split: str, fraction: float) -> tuple[Tensor, Dataset]:
        """Numbers of a split's rows, ascending, and these rows."""
        splits = {
            "train": self._trainer.train_dataset,
            "validation": self._trainer.eval_dataset,
            "held_out": self._trainer.held_out_dataset,
        }
        dataset = splits.get(split)
        if isinstance(dataset, dict) or not isinstance(dataset, Sized):
            raise ValueError(
                f"A modulation looks at every sample of the {split} split, which must have a length and an index; "
                f"found {type(dataset).__name__}. Load it without streaming."
            )
        if not 0 < fraction <= 1:
            raise ValueError(f"fraction must be a number in (0, 1], found {fraction!r}.")
        count = max(1, round(fraction * len(dataset)))
        rows = np.sort(np.random.default_rng(self.seed).permutation(len(dataset))[:count])
        if count < len(dataset):
            dataset = selected(dataset, rows)
        return torch.from_numpy(rows), dataset


def flattened(output: Mapping[str, Any], fields: Sequence[str]) -> dict[str, Tensor]:
    """The fields of a model's output, `<field>_<modality>` of one by modality."""
    found = {}
    for name in fields:
        value = output.get(name)
        if isinstance(value, Mapping):
            found.update({f"{name}_{modality}": each for modality, each in value.items()})
        elif value is not None:
            found[name] = value
    return found
