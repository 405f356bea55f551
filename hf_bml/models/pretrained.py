"""The forward that the models of all tasks share."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.utils import ModelOutput

from ..ground.task import CLASSIFICATION, TASKS, Task
from .batch import buffers_before, check_inputs, presence, present_inputs, restore_buffers
from .checkpointing import INSTEAD, keep_statistics
from .encoders.base import Encoder
from .face import ModelFace
from .forward_view import ForwardView, Modulating
from .frozen import keep_frozen_statistics
from .fusion import drop_features
from .precision import in_precision_of
from .prediction import Prediction, answers_when_alone
from .saved import SavedModel, indivisible_modules


@dataclass
class Pass:
    """What the encoders have made of a batch, before a head sees it.

    Attributes:
        started: per modality what its encoder computed by itself; None for one that the whole batch lacks.
        modality_mask: bool `(batch, modalities)`, the modalities the samples have; None if no sample lacks one.
        shown: per modality the features that modulations see, with a graph.
        features: per modality those of the output, if they are others.
        own_logits: per modality what its own classifier predicts; empty without such.
    """

    started: dict[str, Any]
    modality_mask: Tensor | None
    shown: dict[str, Tensor] = field(default_factory=dict)
    features: dict[str, Tensor] = field(default_factory=dict)
    own_logits: dict[str, Tensor] = field(default_factory=dict)


class MultimodalPreTrainedModel(ModelFace, SavedModel):
    """What the models of all tasks share: the forward here, the rest in [`SavedModel`].

    A task's model overrides `_start`, `_look`, `_score`, `_predict`, and `_join` where joining is more than dropping.

    Attributes:
        encoders: `nn.ModuleDict` by modality, in modality order; their parameters are the paper's theta^m.
        auxiliary_heads: `nn.ModuleDict` by modality, classifiers of single modalities; empty without.
    """

    main_input_name = "modalities"
    output_class: ClassVar[type[ModelOutput]]
    encoders: nn.ModuleDict

    def _complete(self, sizes: Mapping[str, int], with_own_heads: bool = False) -> None:
        """Adds what comes last, and initialises all weights.

        Args:
            sizes: per modality, of what its own classifier sees.
            with_own_heads: whether there are such even without `auxiliary_loss_weight`.
        """
        has_own_heads = with_own_heads or self.config.auxiliary_loss_weight is not None
        heads = {name: nn.Linear(size, self.config.num_labels) for name, size in sizes.items() if has_own_heads}
        self.auxiliary_heads = nn.ModuleDict(heads)
        self.task = self._build_task()
        self.post_init()
        self._no_split_modules = indivisible_modules(self)
        self._apply_requested()

    def _build_task(self) -> Task:
        """What the model's config asks of predictions."""
        config = self.config
        return TASKS[config.problem_type or CLASSIFICATION.problem_type](**config.loss_options)

    def forward(
        self,
        labels: Tensor | None = None,
        modality_mask: Tensor | None = None,
        modulation: Modulating | None = None,
        sample_weight: Tensor | None = None,
        **modalities: Tensor | dict[str, Tensor] | None,
    ) -> Any:
        """
        Args:
            labels: class indices `(batch,)`, or `(batch, segments)` of a model that labels segments; of other tasks
                see [`Task`].
            modality_mask: bool `(batch, modalities)`, False where a sample lacks a modality: its feature is zero
                and it counts in no score. Absent inputs may hold anything finite, zeros by convention; in training
                the encoder sees repeated present samples in their place, so that batch statistics are of real inputs,
                and if there are none it keeps its running statistics.
            modulation: the trainer's `ModulationStack`, or anything with the methods of [`Modulating`].
            sample_weight: `(batch,)`, what the losses of the samples are multiplied by; their mean divides by the
                number of samples.
            modalities: one keyword per modality: a tensor (the encoder's main input), a dict of encoder keywords, or
                None when every sample lacks it. Tensors have a row per sample.
        """
        check_inputs(self.encoders, modalities, modality_mask)
        buffers = []
        if modality_mask is not None and self.training:
            modalities = present_inputs(modalities, modality_mask, self.encoders)
            buffers = buffers_before(self.encoders.values(), modality_mask)
        started = {name: self._started(name, modalities[name]) for name in self.encoders}
        current = self._look(started, presence(self.encoders, modalities, modality_mask), labels)
        own_logits = current.own_logits
        unimodal_logits = self._score(current)
        keep_mask = current.modality_mask
        if modulation is not None:
            view = ForwardView(
                unimodal_logits=unimodal_logits,
                modality_mask=current.modality_mask,
                features=current.shown,
                inputs=modalities,
                own_logits=own_logits if self._own_logits_are_trained else {},
                split=self._split,
                predict=lambda features, keep, detached: self._fuse(current, features, keep, detached),
            )
            keep_mask = modulation.keep_modalities(view)
        seen = self._join(current, keep_mask)
        if modulation is not None:
            seen = modulation.modulate_features(seen, keep_mask)
        prediction = self._predict(current, seen, keep_mask)
        if not self.training and self.config.own_head_when_alone and keep_mask is not None and len(self.encoders) > 1:
            prediction = prediction._replace(logits=answers_when_alone(prediction.logits, own_logits, keep_mask))
        further = modulation.forward_losses(seen) if modulation is not None else {}
        restore_buffers(buffers)
        loss, losses = None, None
        if labels is not None:
            loss = joint = self._joint_loss(prediction, labels, sample_weight)
            losses = {"joint": joint}
            if self.training and own_logits:
                losses["auxiliary"] = self._auxiliary_loss(own_logits, labels, current.modality_mask, sample_weight)
                loss = loss + losses["auxiliary"]
        if keep_mask is None:
            shape = prediction.logits.shape[0], len(self.encoders)  # of a tensor, len() is a constant for torch.export
            keep_mask = torch.ones(shape, dtype=torch.bool, device=prediction.logits.device)
        return self.output_class(
            loss=loss,
            logits=prediction.logits,
            unimodal_logits=unimodal_logits,
            features=current.features or current.shown,
            auxiliary_logits=own_logits or None,
            keep_mask=keep_mask,
            modality_mask=current.modality_mask,
            losses={**(losses or {}), **further} or None if self.training else None,
        )

    def _started(self, name: str, inputs: Tensor | dict[str, Tensor] | None) -> Any:
        if inputs is None:
            return None
        try:
            return self._start(name, in_precision_of(self.encoders[name], inputs))
        except (TypeError, ValueError) as error:
            raise type(error)(f"Modality {name!r}: {error}") from error

    def _start(self, name: str, inputs: Tensor | dict[str, Tensor]) -> Any:
        """What a modality's encoder computes of its input by itself."""
        raise NotImplementedError(f"{type(self).__name__} is abstract: override `_start`.")

    def _look(self, started: dict[str, Any], modality_mask: Tensor | None, labels: Tensor | None) -> Pass:
        """The features that modulations see, zero where a modality is absent, and the own classifiers' logits."""
        raise NotImplementedError(f"{type(self).__name__} is abstract: override `_look`.")

    def _score(self, current: Pass) -> dict[str, Tensor]:
        """What each modality alone predicts: detached, outside autocast, in float32 or better."""
        raise NotImplementedError(f"{type(self).__name__} is abstract: override `_score`.")

    def _join(self, current: Pass, keep_mask: Tensor | None) -> dict[str, Tensor]:
        """The features that the head sees under a keep mask, before `modulate_features`."""
        return current.shown if keep_mask is None else drop_features(current.shown, keep_mask)

    def _predict(
        self, current: Pass, seen: dict[str, Tensor], keep_mask: Tensor | None, detached: bool = False
    ) -> Prediction:
        """What the head predicts; with `detached`, its parameters are constants."""
        raise NotImplementedError(f"{type(self).__name__} is abstract: override `_predict`.")

    def _fuse(self, current: Pass, features: dict[str, Tensor], keep_mask: Tensor | None, detached: bool) -> Tensor:
        if reason := self.why_not_fuse():
            raise ValueError(reason)
        seen = features if keep_mask is None else drop_features(features, keep_mask)
        return self._predict(current, seen, keep_mask, detached).logits

    def why_no_head_graph(self) -> str | None:
        return None if self._split is not None else self.why_not_fuse()

    @property
    def trains_own_heads(self) -> bool:
        return bool(self.auxiliary_heads) and self._own_logits_are_trained

    @property
    def _own_logits_are_trained(self) -> bool:
        """Whether the own classifiers' losses reach the encoders."""
        return self.config.auxiliary_loss_weight is not None

    @property
    def _split(self) -> Callable[[dict[str, Tensor]], dict[str, Tensor]] | None:
        """The head's exact split of features into logits by modality; None if it has none."""
        return None

    def _joint_loss(self, prediction: Prediction, labels: Tensor, weights: Tensor | None) -> Tensor:
        return self.task.loss(prediction.logits, labels, None, weights)

    @property
    def _own_task(self) -> Task:
        """That of the modalities' own classifiers."""
        return self.task

    def _auxiliary_loss(
        self, auxiliary_logits: dict[str, Tensor], labels: Tensor, modality_mask: Tensor | None, weights: Tensor | None
    ) -> Tensor:
        """The summed losses of the modalities' own classifiers, each over the samples that have it."""
        weight = self.config.auxiliary_loss_weight
        losses = [
            self._own_task.loss(logits, labels, None if modality_mask is None else modality_mask[:, column], weights)
            for column, logits in enumerate(auxiliary_logits.values())
        ]
        return (1.0 if weight is None else weight) * sum(losses)

    def why_no_checkpointing(self) -> str | None:
        if any(self._checkpointing_encoders().values()):
            return None
        found = {name: options["type"] for name, options in self.config.modalities.items()}
        return (
            f"activation checkpointing needs an encoder with layers that can be computed again, found {found}. Use "
            f"transformers, timm or sequence encoders. {INSTEAD}"
        )

    def _checkpointing_encoders(self) -> dict[str, list[Encoder]]:
        """Per modality its encoders that have activation checkpointing."""
        return {
            name: [part for part in encoder.modules() if isinstance(part, Encoder) and part.can_checkpoint]
            for name, encoder in self.encoders.items()
        }

    def _set_gradient_checkpointing(
        self,
        enable: bool = True,
        gradient_checkpointing_func: Callable[..., Any] = checkpoint,
        every_n_layers: int = 1,
    ) -> None:
        """What transformers' methods end in: turns activation checkpointing on or off in the encoders that have it.

        Raises:
            ValueError: `why_no_checkpointing`.
        """
        if enable and (reason := self.why_no_checkpointing()):
            raise ValueError(reason)
        found = self._checkpointing_encoders()
        without = {name: self.config.modalities[name]["type"] for name, able in found.items() if not able}
        if enable and without:
            warnings.warn(
                f"Activation checkpointing has no effect on the encoders {without}, which keep their activations.",
                stacklevel=2,
            )
        for encoder in (each for able in found.values() for each in able):
            encoder.checkpoint(enable, gradient_checkpointing_func, every_n_layers)
        keep_statistics(self.encoders)

    def train(self, mode: bool = True) -> MultimodalPreTrainedModel:
        """As of every module, but normalisation layers whose weights are frozen stay in eval mode."""
        super().train(mode)
        if mode:
            keep_frozen_statistics(self, self.encoders.values())
        return self
