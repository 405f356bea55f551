"""The forward of a wrapped model: encoders, scores, what the modulations let pass, and the rest of the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from ...ground.task import SAMPLE_WEIGHT, Task
from ..checkpointing import without_checkpointing
from ..forward_view import ForwardView
from ..modeling_multimodal import MultimodalClassifierOutput
from .checks import CheckedModel
from .outputs import copied, feature_field, get, loss_of, replaced, spread_rows
from .replay import FurtherCallError


class BalancedForward(CheckedModel):
    """A wrapped model with the output that balancing needs.

    Attributes:
        task: what its predictions are worth.
        takes_labels: whether the wrapped model's forward names them; if so, it may have a loss of its own.
        takes_weights: the same of weights of samples.
    """

    task: Task
    takes_labels: bool
    takes_weights: bool

    @torch.compiler.disable  # hooks and replaced forwards are not what a compiler can trace
    def forward(
        self,
        labels: Tensor | None = None,
        modality_mask: Tensor | None = None,
        modulation: Any = None,
        num_items_in_batch: Tensor | int | None = None,
        score_modalities: bool = True,
        sample_weight: Tensor | None = None,
        **inputs: Any,
    ) -> MultimodalClassifierOutput:
        """
        Args:
            labels: class indices `(batch,)`, or what the task of the model's `config.problem_type` has; of a language
                model tokens `(batch, length)`.
            modality_mask: bool `(batch, modalities)`, False where a sample lacks a modality: its encoder's output is
                zero and it counts in no score. In eval mode the output has it as `keep_mask` only.
            modulation: as for [`MultimodalForClassification`].
            num_items_in_batch: labelled tokens of the whole batch, over all micro-batches and processes, by which the
                loss of a language model is divided; None: those of this one.
            score_modalities: whether to predict from each modality alone; else `unimodal_logits` is empty.
            sample_weight: as for [`MultimodalForClassification`]; for a model that takes it, or no labels.
            inputs: keywords of the wrapped model.
        """
        if labels is not None and self.takes_labels:
            inputs = {**inputs, "labels": labels}
        self._counts = {name: (inputs["input_ids"] == token).sum(1) for name, token in self.placeholders.items()}
        if sample_weight is not None and self.takes_weights:
            inputs = {**inputs, SAMPLE_WEIGHT: sample_weight}
        if not self._structure_is_checked:
            self._check_structure(inputs)
        mask = self._presence(modality_mask)
        options = mask, modulation, num_items_in_batch, score_modalities, sample_weight
        if self._is_called_once:
            try:
                return self._forward(labels, *options, inputs)
            except FurtherCallError:  # as in a loop over frames, of which the first batch had one
                self._is_called_once = False  # from here on; this batch begins again, its modulations too
        return self._forward(labels, *options, inputs)

    def _forward(
        self,
        labels: Tensor | None,
        mask: Tensor | None,
        modulation: Any,
        num_items_in_batch: Tensor | int | None,
        score_modalities: bool,
        sample_weight: Tensor | None,
        inputs: Mapping[str, Any],
    ) -> MultimodalClassifierOutput:
        """The forward; `inputs` may hold the labels."""
        # In training always, so that a run without modulations draws and counts what one with them does.
        runs_again = self.training or mask is not None or modulation is not None
        result = None
        encoders_only = runs_again and self._is_called_once
        with self._recorded(encoders_only) as (outputs, earlier), self._statistics_kept():
            result = self._run(inputs)
        if absent := [name for name, calls in outputs.items() if not calls]:
            raise ValueError(
                f"No sample of this batch has {absent[0]!r}: its encoder was not called. Let every batch hold one, "
                "such as a blank input that modality_mask marks as absent."
            )
        if self.training and torch.is_grad_enabled() and not self._gradient_is_checked:
            self._check_gradient(outputs)
        if runs_again:
            result = None  # and the graph behind the encoders is freed
        unimodal_logits, rows = {}, None
        if score_modalities:
            samples = 0 if labels is None else len(labels)
            if samples and self.training:
                rows = spread_rows(samples, self.score_fraction, labels.device)
            if rows is not None and not self._fraction_is_checked:
                self._check_fraction(outputs, earlier, inputs, rows, samples)
            unimodal_logits = self._unimodal_logits(outputs, earlier, inputs, mask, rows, samples)
        keep_mask = mask
        if modulation is not None:
            keep_mask = modulation.keep_modalities(self._view(outputs, earlier, inputs, unimodal_logits, mask))
        seen = outputs
        if runs_again:
            seen = self._kept(outputs, keep_mask)
            if modulation is not None:
                seen = self._modulated(seen, modulation, keep_mask)
            with self._replayed(seen, earlier):
                result = self._run(inputs)
        further = modulation.forward_losses(self._features(seen)) if modulation is not None else {}
        joint = self._logits(result)
        if not self._rows_are_checked and len(joint) > 1:
            self._check_rows(outputs, earlier, inputs)
        loss = loss_of(result) if self.takes_labels else None
        if loss is None and labels is not None:
            loss = self.task.loss(joint, labels, None, sample_weight)
        elif loss is not None and sample_weight is not None and not self.takes_weights:
            raise ValueError(
                f"The data has a column {SAMPLE_WEIGHT}, but the loss of {type(self.model).__name__} is its own and "
                "does not see it. Let its forward take sample_weight, or no labels, or take the column out."
            )
        if loss is not None and num_items_in_batch is not None:
            loss = loss * (self.task.tokens(labels).to(loss.dtype) / num_items_in_batch)
        if keep_mask is None:
            keep_mask = torch.ones(len(joint), len(self.paths), dtype=torch.bool, device=joint.device)
        return MultimodalClassifierOutput(
            loss=loss,
            logits=joint,
            unimodal_logits=unimodal_logits,
            keep_mask=keep_mask,
            modality_mask=mask if self.training else None,  # the evaluation takes all there is for a prediction
            losses=({} if loss is None else {"joint": loss}) | further or None if self.training else None,
            scored_rows=rows,
        )

    def _presence(self, modality_mask: Tensor | None) -> Tensor | None:
        """Which modalities each sample has, bool `(batch, modalities)`; None if nothing says so."""
        mask = None if modality_mask is None else modality_mask.bool()
        if not self._counts:
            return mask
        some = next(iter(self._counts.values()))
        holds = [
            self._counts[name] > 0 if name in self._counts else torch.ones_like(some).bool() for name in self.paths
        ]
        return torch.stack(holds, 1) if mask is None else torch.stack(holds, 1) & mask

    def _view(
        self,
        outputs: Mapping[str, list[Any]],
        earlier: Mapping[str, list[Any]],
        inputs: Mapping[str, Any],
        unimodal_logits: dict[str, Tensor],
        mask: Tensor | None,
    ) -> ForwardView:
        """What the modulations may read; `fuse` runs the rest of the model once more."""

        def predict(features: dict[str, Tensor], keep: Tensor | None, detached: bool) -> Tensor:
            for name, calls in outputs.items():
                if len(calls) != 1:
                    raise ValueError(
                        f"fuse needs encoders that are called once in a forward; that of {name!r}, "
                        f"{self.paths[name][-1]}, is called {len(calls)} times."
                    )
            fields = {name: feature_field(calls[0], self.features.get(name)) for name, calls in outputs.items()}
            changed = {name: [replaced(outputs[name][0], fields[name], features[name])] for name in outputs}
            with self._replayed(self._kept(changed, keep), earlier), self._statistics_kept():
                if not detached:
                    return self._logits(self._run(inputs))
                inside = {id(p) for encoder in self.encoders.values() for p in encoder.parameters()}
                constants = {n: p.detach() for n, p in self.model.named_parameters() if id(p) not in inside}
                self._expect(inputs)
                # Computed again, the layers would have their parameters, not the constants.
                with without_checkpointing(self.model):
                    return self._logits(functional_call(self.model, constants, kwargs=copied(dict(inputs))))

        given = {name: inputs[name] for name in self.paths if name in inputs}
        samples = len(next(iter(self._counts.values()))) if self._counts else None
        features = self._features(outputs)
        return ForwardView(unimodal_logits, mask, features, given or dict(inputs), predict, samples=samples)

    def _features(self, outputs: Mapping[str, list[Any]]) -> dict[str, Tensor]:
        """Each modality's feature, of the first call of its encoder."""
        return {
            name: get(calls[0], feature_field(calls[0], self.features.get(name))) for name, calls in outputs.items()
        }

    def _modulated(
        self, outputs: dict[str, list[Any]], modulation: Any, keep_mask: Tensor | None
    ) -> dict[str, list[Any]]:
        """Lets the modulation change the features; of an encoder that is called several times, those of each call."""
        counts = {name: len(calls) for name, calls in outputs.items()}
        if len(set(counts.values())) > 1:
            raise ValueError(
                f"expected the encoders to be called equally often in a forward, found {counts}. Name modules that "
                "run once, such as nn.Identity() on what the model makes of all calls."
            )
        changed: dict[str, list[Any]] = {name: [] for name in outputs}
        for calls in zip(*outputs.values(), strict=True):
            call = dict(zip(outputs, calls, strict=True))
            fields = {name: feature_field(output, self.features.get(name)) for name, output in call.items()}
            features = modulation.modulate_features(
                {name: get(output, fields[name]) for name, output in call.items()}, keep_mask
            )
            for name, output in call.items():
                changed[name].append(replaced(output, fields[name], features[name]))
        return changed
