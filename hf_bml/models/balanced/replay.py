"""Records what the encoders of a wrapped model return, and runs the rest of the model again on other outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from ...ground.task import at_least_float32
from ..face import ModelFace
from ..fusion import evaluation_mode
from ..wrappers import without_adapter
from .outputs import copied, logits_of, part, replaced, rows_of, zero_rows, zeroed


class AllHaveRunError(Exception):
    """Ends a forward in which every encoder has run."""


class FurtherCallError(ValueError):
    """An encoder is called more often than it was when its outputs were recorded."""


class ReplayedModel(ModelFace, nn.Module):
    """A wrapped model whose encoders can be replaced by what they have returned.

    Attributes:
        model: the wrapped model.
        paths: per modality the paths of its modules, which run one after the other.
        features: per modality the field of its encoder's output that is its feature, if it is named.
        logits: field of the model's output, or a function of it.
        num_labels: classes, or tokens of a language model's vocabulary.
        placeholders: per modality whose features replace tokens of `input_ids`, the id of these tokens.
    """

    model: nn.Module
    paths: dict[str, list[str]]
    features: dict[str, str | int]
    logits: str | Callable[[Any], Tensor]
    num_labels: int
    placeholders: dict[str, int]
    _inputs_are_changed = False
    _labels: Tensor | None = None  # of the last run, where they say which logits count
    _counts: Mapping[str, Tensor] = MappingProxyType({})  # per modality the tokens that each sample has of it

    @property
    def encoders(self) -> dict[str, nn.ModuleList]:
        """The modules of each modality; their parameters are the paper's theta^m."""
        return {name: nn.ModuleList(map(self._module, paths)) for name, paths in self.paths.items()}

    def _module(self, path: str) -> nn.Module:
        return without_adapter(self.model).get_submodule(path)

    def _run(self, inputs: Mapping[str, Any]) -> Any:
        """The wrapped model's output; a model that changes its inputs in place gets copies, as it runs several
        times."""
        self._expect(inputs)
        return self.model(**(copied(dict(inputs)) if self._inputs_are_changed else inputs))

    def _expect(self, inputs: Mapping[str, Any]) -> None:
        """Notes, before the model runs on these inputs, which of a language model's logits count."""
        self._labels = inputs.get("labels") if self.task.counts_tokens else None

    def _logits(self, result: Any) -> Tensor:
        logits = self.logits(result) if callable(self.logits) else logits_of(result, self.logits)
        dimensions = 3 if self.task.counts_tokens else 2
        if not isinstance(logits, Tensor) or logits.dim() != dimensions or logits.shape[-1] != self.num_labels:
            found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            form = f"(batch, length, {self.num_labels})" if dimensions == 3 else f"(batch, {self.num_labels})"
            is_language_model = dimensions == 2 and isinstance(logits, Tensor) and logits.dim() == 3
            other_task = ", or task='causal_lm' or 'seq2seq_lm' if it predicts tokens" if is_language_model else ""
            raise ValueError(
                f"expected logits {form} from {type(self.model).__name__}, found {found}. Pass "
                f"`logits`, a field of its output or a function of it, to balance(){other_task}."
            )
        if self._labels is None:
            return logits
        if logits.shape[:2] != self._labels.shape:
            raise ValueError(
                f"expected logits for each of the {tuple(self._labels.shape)} labels from "
                f"{type(self.model).__name__}, found {tuple(logits.shape)}. Give labels the length of what the model "
                "reads, or let `logits` be a function that takes those of the labels' positions."
            )
        return self.task.predicting(logits, self._labels)

    @torch.no_grad()
    def _unimodal_logits(
        self,
        outputs: Mapping[str, list[Any]],
        earlier: Mapping[str, list[Any]],
        inputs: Mapping[str, Any],
        mask: Tensor | None = None,
        rows: Tensor | None = None,
        samples: int = 0,
    ) -> dict[str, Tensor]:
        """What each modality alone predicts, `(batch, ..., num_labels)`, float32 or better; of `rows` only, if given,
        of a batch of so many samples."""
        present, unimodal_logits = self._kept(outputs, mask), {}
        if rows is not None:
            present, earlier, inputs = (rows_of(each, rows, samples) for each in (present, earlier, dict(inputs)))
        with evaluation_mode(self):
            for name in self.paths:
                alone = {
                    other: outs if other == name else self._zeroed(other, outs) for other, outs in present.items()
                }
                with self._replayed(alone, earlier):
                    logits = self._logits(self._run(inputs))
                unimodal_logits[name] = at_least_float32(logits)
        return unimodal_logits

    def _kept(self, outputs: Mapping[str, list[Any]], keep_mask: Tensor | None) -> dict[str, list[Any]]:
        """The outputs with zeros where `keep_mask (batch, modalities)` is False."""
        if keep_mask is None:
            return dict(outputs)
        keeps = zip(self.paths, keep_mask.unbind(1), strict=True)
        return {name: self._zeroed(name, outputs[name], keep) for name, keep in keeps}

    def _zeroed(self, modality: str, calls: Sequence[Any], keep: Tensor | None = None) -> list[Any]:
        """See [`zeroed`]; of a tuple only the part that is the feature."""
        field, counts = self.features.get(modality), self._counts.get(modality)
        try:
            if not isinstance(field, int):
                return zeroed(calls, keep, counts)
            return [replaced(output, field, zero_rows(part(output, field), keep, counts)) for output in calls]
        except ValueError as error:
            raise ValueError(f"The encoder of {modality!r}, {self.paths[modality][-1]}: {error}") from error

    @contextmanager
    def _recorded(self, encoders_only: bool = False) -> Iterator[tuple[dict[str, list[Any]], dict[str, list[Any]]]]:
        """Collects the encoders' outputs by modality and those of the modules before them by path, call by call.

        The model gets copies, so that it cannot change what is replayed (LLaVA sets a field, others add in place).

        Args:
            encoders_only: end the model's forward, and the block, when every encoder has been called once.
        """
        outputs: dict[str, list[Any]] = {name: [] for name in self.paths}
        earlier: dict[str, list[Any]] = {path: [] for paths in self.paths.values() for path in paths[:-1]}
        collected = {**earlier, **{paths[-1]: outputs[name] for name, paths in self.paths.items()}}

        def record(calls: list[Any]) -> Callable[..., Any]:
            def hook(module: nn.Module, args: Any, output: Any) -> Any:
                calls.append(output)
                if encoders_only and all(outputs.values()):
                    raise AllHaveRunError
                return copied(output)

            return hook

        handles = [self._module(path).register_forward_hook(record(calls)) for path, calls in collected.items()]
        try:
            yield outputs, earlier
        except Exception:  # the model may have made another exception of the one below
            if not (encoders_only and all(outputs.values())):
                raise
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def _statistics_kept(self) -> Iterator[None]:
        """Leaves the buffers outside the encoders, such as BatchNorm's, as they are.

        What runs before an encoder is in its mode and gets its gradient, as in a forward of the model alone.
        """
        inside = {module for encoder in self.encoders.values() for module in encoder.modules()}
        kept = [
            (module, dict(module._buffers))
            for module in self.model.modules()
            if module.training and module._buffers and module not in inside
        ]
        for module, buffers in kept:  # changing them back in place would break the backward pass
            for name, buffer in buffers.items():
                module._buffers[name] = None if buffer is None else buffer.clone()
        try:
            yield
        finally:
            for module, buffers in kept:
                module._buffers.update(buffers)

    @contextmanager
    def _replayed(self, outputs: Mapping[str, Sequence[Any]], earlier: Mapping[str, Sequence[Any]]) -> Iterator[None]:
        """Lets the encoders in `outputs` return these, call by call, instead of running.

        The modules before them return what they did, which the model may read (a field of it, its shape).
        """
        replaced_modules = []
        for name, calls in outputs.items():
            *before, last = self.paths[name]
            for path, values in [*((path, earlier[path]) for path in before), (last, calls)]:
                module = self._module(path)
                replaced_modules.append((module, module.__dict__.get("forward")))
                module.forward = replay(name, path, values)
        try:
            yield
        finally:
            for module, forward in replaced_modules:
                del module.forward
                if forward is not None:
                    module.forward = forward


def replay(modality: str, path: str, values: Sequence[Any]) -> Callable[..., Any]:
    """A forward that returns copies of what a module has returned, call by call.

    Raises:
        FurtherCallError: it is called once more.
    """
    remaining = iter(values)

    def forward(*_: Any, **__: Any) -> Any:
        for value in remaining:
            return copied(value)
        raise FurtherCallError(
            f"The encoder of {modality!r}, {path}, was called {len(values)} times in the model's forward, and is "
            "called more often when the rest of the model runs again. Name a module that runs equally often whatever "
            "the encoders return, such as nn.Identity() on what the model makes of all calls."
        )

    return forward
