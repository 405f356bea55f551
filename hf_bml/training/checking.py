"""`transformers.Trainer` that checks columns, labels and losses, and yields predictions that any metric can read."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import datasets
import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, Trainer

from ..ground.task import SAMPLE_WEIGHT, RegressionTask
from ..models.face import ModelFace
from ..models.precision import in_precision
from ..modulation import ModulationStack
from .data_checks import checked_batch
from .preflight import check_output

KEPT = ("labels", SAMPLE_WEIGHT)  # what is not cast for an evaluation


class CheckingTrainer(Trainer):
    """Checks what only a batch can tell, in training and evaluation.

    Attributes:
        face: the model's.
        modulation: its modulations.
    """

    face: ModelFace
    modulation: ModulationStack

    @property
    def num_labels(self) -> int:
        """Classes that the model tells apart."""
        return self.face.num_labels

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        check_output(outputs, loss, training=model.training)
        return (loss, outputs) if return_outputs else loss

    def prediction_step(self, *args: Any, **kwargs: Any) -> tuple[Any, Any, Any]:
        from ..metrics.joint_predictions import JointPredictions  # its room imports evaluate, which is slow
        from ..metrics.language_model import token_predictions

        loss, predictions, labels = super().prediction_step(*args, **kwargs)
        if self.face.task.counts_tokens and predictions is not None and self.preprocess_logits_for_metrics is None:
            predictions = token_predictions(predictions, labels, self.face.task)
        return loss, JointPredictions(predictions) if isinstance(predictions, tuple) else predictions, labels

    def _get_collator_with_removed_columns(self, data_collator: Any, description: str | None = None) -> Any:
        """The labels of data that could not be checked before, a stream or a Dataset class, are checked here."""
        collator = super()._get_collator_with_removed_columns(data_collator, description)
        if description not in ("Training", "Evaluation"):
            return collator
        readers = self.modulation.who("class_numbers") if description == "Training" else ()
        return partial(
            checked_batch,
            collator=collator,
            num_labels=self.num_labels,
            description=description,
            task=self.face.task,
            readers=readers,
        )

    def _set_signature_columns_if_needed(self) -> None:
        """The columns that `remove_unused_columns=True` keeps."""
        columns = self.face.input_columns
        if not columns:
            raise ValueError(
                "remove_unused_columns: true needs the names of the model's inputs, but its forward takes any (*args, "
                "**kwargs). Leave it out, or name them in the forward."
            )
        self._signature_columns = ["labels", "modality_mask", SAMPLE_WEIGHT, *columns]

    def _prepare_input(self, data: Any) -> Any:
        """Also casts to the precision of `bf16_full_eval` and `fp16_full_eval`, in which the model is evaluated."""
        args = self.args
        if self.is_in_train or not (args.bf16_full_eval or args.fp16_full_eval):
            return super()._prepare_input(data)
        if isinstance(data, Mapping) and "labels" in data:  # which keep their precision, as weights do
            kept = {name: super(CheckingTrainer, self)._prepare_input(data[name]) for name in KEPT if name in data}
            return {**{name: self._prepare_input(value) for name, value in data.items() if name not in kept}, **kept}
        return in_precision(super()._prepare_input(data), torch.float16 if args.fp16_full_eval else torch.bfloat16)


def name_labels(config: PreTrainedConfig | None, dataset: Any) -> None:
    """Gives a config whose labels are still LABEL_0, LABEL_1, ... the data set's class names, if it has as many."""
    if config is None or not isinstance(dataset, datasets.Dataset | datasets.IterableDataset):
        return
    feature = (dataset.features or {}).get("labels")
    if isinstance(feature, datasets.List | datasets.LargeList):
        feature = feature.feature
    names = feature.names if isinstance(feature, datasets.ClassLabel) else []
    if names and config.id2label == {number: f"LABEL_{number}" for number in range(len(names))}:
        config.id2label = dict(enumerate(names))
        config.label2id = {name: number for number, name in enumerate(names)}


def standardise_labels(face: ModelFace, dataset: Any) -> None:
    """Gives the model of a regression that has none the mean and standard deviation of the labels of a data set."""
    if not isinstance(face.task, RegressionTask) or not isinstance(dataset, datasets.Dataset):
        return
    labels = np.asarray(dataset.with_format(None).select_columns("labels")["labels"][:], dtype=np.float64)
    labels = labels.reshape(len(labels), -1)
    std = labels.std(0)
    face.standardise_labels(labels.mean(0).tolist(), np.where(std > 0, std, 1.0).tolist())
