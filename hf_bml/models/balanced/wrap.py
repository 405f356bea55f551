"""Any model that classifies, made ready for balanced training without a rewrite."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers import PreTrainedConfig

from ...ground.suggestion import did_you_mean
from ...ground.task import at_least_float32, cross_entropy
from ..configuration_multimodal import check_modality_name
from ..face import ForwardView, ModelFace
from ..frozen import keep_frozen_statistics
from ..fusion import evaluation_mode
from ..modeling_multimodal import MultimodalClassifierOutput
from ..options import is_size
from ..wrappers import PEFT_PREFIX, check_bare, without_adapter
from .outputs import (
    copied,
    feature_field,
    get,
    logits_of,
    loss_of,
    part,
    replaced,
    same,
    shapes,
    tensors,
    zero_rows,
    zeroed,
)


def balance(
    model: nn.Module,
    modalities: Mapping[str, str | Sequence[str]],
    features: Mapping[str, str | int] | None = None,
    logits: str | Callable[[Any], Tensor] = "logits",
    num_labels: int | None = None,
) -> BalancedModel:
    """Wraps a model, so that [`MultimodalBalancedTrainer`] trains it with modulations such as OPM and OGM.

    The modalities are scored by zero-out (paper Sec. 4.3.7): the rest of the model runs once more for each modality,
    without gradient and in eval mode, on the encoders' outputs of the same forward with those of the others set to
    zero. A modality that OPM drops is zeroed in the same way. In training the rest of the model always runs twice, and
    only the second time, on what the modulations let pass, counts for the loss, BatchNorm's statistics and dropout:
    with and without modulations the computation is the same. What the trainer saves is the model itself.

    Args:
        model: whose output holds logits `(batch, num_labels)`. It gets the batch as it comes; `labels` only if its
            forward names that parameter. Its loss is its output's `loss`, which should be a mean over the batch, or
            the first item of a tuple if that is a scalar; without one it is the cross-entropy. A PEFT model is saved
            as PEFT does, the adapter alone.
        modalities: per modality the path of its encoder inside the model, as in `model.get_submodule` (of a PEFT
            model: inside the model that it adapts); or several paths of modules that run one after the other, whose
            parameters count together and the last of which yields the feature.
        features: per modality the field of the encoder's output that is its feature, for modulations that scale
            features; default the output itself, or `pooler_output`, or `last_hidden_state`. Of an encoder that returns
            a tuple, such as a recurrent layer, the index of what the model uses: nothing else in it is zeroed.
        logits: field of the model's output, or a function of it. A tensor alone is the logits; of a tuple, the first
            tensor that is not a scalar.
        num_labels: at least 2; default `model.config.num_labels`.

    Raises:
        ValueError: a path does not exist, one encoder is or lies inside another, `num_labels` is not known or below 2,
            the model is compiled, distributed or TorchScript, or its forward takes its inputs under names that cannot
            be passed on. In the first forward: an encoder that is not called, whose output depends on another
            modality's, or without which the prediction is not a number or, for any weights outside the encoders,
            does not change: then a score would mean nothing. In the first forward of several samples: an encoder whose
            output does not have the batch in front.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> class Model(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.see, self.read, self.head = nn.Linear(4, 8), nn.Linear(3, 8), nn.Linear(16, 2)
        ...
        ...     def forward(self, image, text):
        ...         return {"logits": self.head(torch.cat([self.see(image), self.read(text)], dim=-1))}
        >>> model = balance(Model(), {"image": "see", "text": "read"}, num_labels=2)
        >>> output = model(image=torch.randn(5, 4), text=torch.randn(5, 3), labels=torch.zeros(5, dtype=torch.long))
        >>> output.unimodal_logits["text"].shape
        torch.Size([5, 2])
    """
    return BalancedModel(model, modalities, features, logits, num_labels)


class BalancedModel(ModelFace, nn.Module):
    """A model with the interface that balancing needs; see [`balance`].

    Attributes:
        model: the wrapped model.
        encoders: per modality its modules, a plain dict.
        num_labels: classes.
        input_columns: keywords that the wrapped model's forward names, but labels; empty if it names none.
        required_columns: those of them without a default.
        can_be_compiled: false; under `torch.compile` it runs as without.
    """

    accepts_loss_kwargs = False
    can_be_compiled = False
    auxiliary_heads: ClassVar[Mapping[str, nn.Module]] = {}
    input_columns: Sequence[str] = ()  # attributes in the place of properties
    required_columns: Sequence[str] = ()
    num_labels: int = 0

    def __init__(
        self,
        model: nn.Module,
        modalities: Mapping[str, str | Sequence[str]],
        features: Mapping[str, str | int] | None = None,
        logits: str | Callable[[Any], Tensor] = "logits",
        num_labels: int | None = None,
    ):
        super().__init__()
        check_bare(model)
        if isinstance(model, BalancedModel):
            raise ValueError("The model is in balance() already: pass it to the trainer as it is.")
        if not modalities:
            raise ValueError("modalities must name at least one encoder, such as {'vision': 'vision_model'}.")
        self.model = model
        self.paths = {name: [path] if isinstance(path, str) else list(path) for name, path in modalities.items()}
        inner = without_adapter(model)
        if inner is not model:  # with or without what PEFT puts in front
            self.paths = {n: [path.removeprefix(PEFT_PREFIX) for path in paths] for n, paths in self.paths.items()}
        for name, paths in self.paths.items():
            check_modality_name(name)
            for path in paths:
                check_path(inner, name, path)
        check_disjoint(inner, self.paths)
        unknown = [name for name in features or {} if name not in self.paths]
        if unknown:
            raise ValueError(f"features names {unknown}, but the modalities are {list(self.paths)}.")
        self.features = dict(features or {})
        self.logits = logits
        config = getattr(inner, "config", None)
        self.num_labels = getattr(config, "num_labels", None) if num_labels is None else num_labels
        if self.num_labels is None:
            raise ValueError(f"{type(model).__name__} has no config.num_labels: pass num_labels to balance().")
        if not is_size(self.num_labels, least=2):
            raise ValueError(
                f"num_labels must be an integer of at least 2, found {self.num_labels!r}: a modality's score is the "
                "probability of the true class, and that of a single class is always 1. Let a model with one logit x "
                "for yes or no predict the two logits 0 and x: "
                "logits=lambda output: nn.functional.pad(output.logits, (1, 0))."
            )
        named = keywords(inner)
        self.takes_labels = "labels" in named
        self.input_columns = [name for name in named if name != "labels"]
        self.required_columns = [name for name in self.input_columns if named[name].default is inspect.Parameter.empty]
        self._structure_is_checked = self._rows_are_checked = self._weights_are_blind = False
        self._inputs_are_changed = self._gradient_is_checked = False

    @property
    def encoders(self) -> dict[str, nn.ModuleList]:
        """The modules of each modality; their parameters are the paper's theta^m."""
        return {name: nn.ModuleList(map(self._module, paths)) for name, paths in self.paths.items()}

    @property
    def wrapped_model(self) -> nn.Module:
        """What the trainer saves: the model as it was given."""
        return self.model

    @property
    def balance_arguments(self) -> dict[str, Any]:
        """What wraps the model again in the same way; `logits` is None if it is a function."""
        return {
            "modalities": {name: list(paths) for name, paths in self.paths.items()},
            "features": dict(self.features),
            "logits": None if callable(self.logits) else self.logits,
            "num_labels": self.num_labels,
        }

    @property
    def config(self) -> PreTrainedConfig | None:
        """The wrapped model's config; None if it has none, or one of its own kind, which the Trainer cannot read."""
        config = getattr(without_adapter(self.model), "config", None)
        return config if isinstance(config, PreTrainedConfig) else None

    def save_pretrained(self, *args: Any, **kwargs: Any) -> Any:
        """Saves the wrapped model, which needs no balancing to be used."""
        return self.model.save_pretrained(*args, **kwargs)

    def train(self, mode: bool = True) -> BalancedModel:
        super().train(mode)
        if mode:
            keep_frozen_statistics(self.model, self.encoders.values())
        return self

    @torch.compiler.disable  # hooks and replaced forwards are not what a compiler can trace
    def forward(
        self,
        labels: Tensor | None = None,
        modality_mask: Tensor | None = None,
        modulation: Any = None,
        **inputs: Any,
    ) -> MultimodalClassifierOutput:
        """
        Args:
            labels: class indices `(batch,)`.
            modality_mask: bool `(batch, modalities)`, False where a sample lacks a modality: its encoder's output is
                zero and it counts in no score. In eval mode the output has it as `keep_mask` only.
            modulation: as for [`MultimodalForClassification`].
            inputs: keywords of the wrapped model.
        """
        if labels is not None and self.takes_labels:
            inputs = {**inputs, "labels": labels}
        if not self._structure_is_checked:
            self._check_structure(inputs)
        mask = None if modality_mask is None else modality_mask.bool()
        with self._recorded() as (outputs, earlier), self._statistics_kept():
            result = self._run(inputs)
        if self.training and torch.is_grad_enabled() and not self._gradient_is_checked:
            self._check_gradient(outputs)
        if not self._rows_are_checked and len(self._logits(result)) > 1:
            self._check_rows(outputs, earlier, inputs)
        # In training always, so that a run without modulations draws and counts what one with them does.
        runs_again = self.training or mask is not None or modulation is not None
        if runs_again:
            result = None  # and the graph behind the encoders is freed
        unimodal_logits = self._unimodal_logits(outputs, earlier, inputs, mask)
        keep_mask = mask
        if modulation is not None:
            keep_mask = modulation.keep_modalities(self._view(outputs, earlier, inputs, unimodal_logits, mask))
        if runs_again:
            seen = self._kept(outputs, keep_mask)
            if modulation is not None:
                seen = self._modulated(seen, modulation, keep_mask)
            with self._replayed(seen, earlier):
                result = self._run(inputs)
        further = modulation.forward_losses(self._features(outputs)) if modulation is not None else {}
        joint = self._logits(result)
        loss = loss_of(result) if self.takes_labels else None
        if loss is None and labels is not None:
            loss = cross_entropy(joint, labels)
        if keep_mask is None:
            keep_mask = torch.ones(len(joint), len(self.paths), dtype=torch.bool, device=joint.device)
        return MultimodalClassifierOutput(
            loss=loss,
            logits=joint,
            unimodal_logits=unimodal_logits,
            keep_mask=keep_mask,
            modality_mask=mask if self.training else None,  # the evaluation takes all there is for a prediction
            losses=({} if loss is None else {"joint": loss}) | further or None if self.training else None,
        )

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
            with self._replayed(self._kept(changed, keep), earlier):
                if not detached:
                    return self._logits(self._run(inputs))
                inside = {id(p) for encoder in self.encoders.values() for p in encoder.parameters()}
                constants = {n: p.detach() for n, p in self.model.named_parameters() if id(p) not in inside}
                return self._logits(functional_call(self.model, constants, kwargs=copied(dict(inputs))))

        given = {name: inputs[name] for name in self.paths if name in inputs}
        return ForwardView(unimodal_logits, mask, self._features(outputs), given or dict(inputs), predict)

    def _features(self, outputs: Mapping[str, list[Any]]) -> dict[str, Tensor]:
        """Each modality's feature, of the first call of its encoder."""
        return {
            name: get(calls[0], feature_field(calls[0], self.features.get(name))) for name, calls in outputs.items()
        }

    def _module(self, path: str) -> nn.Module:
        return without_adapter(self.model).get_submodule(path)

    def _run(self, inputs: Mapping[str, Any]) -> Any:
        """The wrapped model's output; a model that changes its inputs in place gets copies, as it runs several
        times."""
        return self.model(**(copied(dict(inputs)) if self._inputs_are_changed else inputs))

    def _logits(self, result: Any) -> Tensor:
        logits = self.logits(result) if callable(self.logits) else logits_of(result, self.logits)
        if not isinstance(logits, Tensor) or logits.dim() != 2 or logits.shape[1] != self.num_labels:
            found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(
                f"expected logits (batch, {self.num_labels}) from {type(self.model).__name__}, found {found}. Pass "
                "`logits`, a field of its output or a function of it, to balance()."
            )
        return logits

    @torch.no_grad()
    def _unimodal_logits(
        self,
        outputs: Mapping[str, list[Any]],
        earlier: Mapping[str, list[Any]],
        inputs: Mapping[str, Any],
        mask: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """What each modality alone predicts, `(batch, num_labels)`, float32 or better."""
        present, unimodal_logits = self._kept(outputs, mask), {}
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
        field = self.features.get(modality)
        if not isinstance(field, int):
            return zeroed(calls, keep)
        return [replaced(output, field, zero_rows(part(output, field), keep)) for output in calls]

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

    @contextmanager
    def _recorded(self) -> Iterator[tuple[dict[str, list[Any]], dict[str, list[Any]]]]:
        """Collects the encoders' outputs by modality and those of the modules before them by path, call by call.

        The model gets copies, so that it cannot change what is replayed (LLaVA sets a field, others add in place).
        """
        outputs: dict[str, list[Any]] = {name: [] for name in self.paths}
        earlier: dict[str, list[Any]] = {path: [] for paths in self.paths.values() for path in paths[:-1]}
        collected = {**earlier, **{paths[-1]: outputs[name] for name, paths in self.paths.items()}}

        def record(calls: list[Any]) -> Callable[..., Any]:
            def hook(module: nn.Module, args: Any, output: Any) -> Any:
                calls.append(output)
                return copied(output)

            return hook

        handles = [self._module(path).register_forward_hook(record(calls)) for path, calls in collected.items()]
        try:
            yield outputs, earlier
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
            if module.training and module not in inside
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
                remaining = iter(values)
                module.forward = lambda *_, remaining=remaining, **__: copied(next(remaining))
        try:
            yield
        finally:
            for module, forward in replaced_modules:
                del module.forward
                if forward is not None:
                    module.forward = forward

    @torch.no_grad()
    def _check_structure(self, inputs: Mapping[str, Any]) -> None:
        """Whether zero-out can tell the modalities apart; runs once, on the first batch.

        The weights may not tell yet, such as a head of zeros or a closed gate; then others replace them.
        """
        try:
            self._check_scores(inputs)
        except ValueError:
            self._weights_are_blind = True
        if self._weights_are_blind:
            with self._perturbed():
                self._check_scores(inputs)
        self._structure_is_checked = True

    def _check_scores(self, inputs: Mapping[str, Any]) -> None:
        """See `_check_structure`."""
        with evaluation_mode(self):
            given = copied(dict(inputs))
            before = versions(given)
            with self._recorded() as (outputs, earlier):
                joint = self._logits(self.model(**given))
            self._inputs_are_changed = versions(given) != before
            for name, calls in outputs.items():
                self._check_calls(name, calls)
            for name in self.paths:
                with (
                    self._recorded() as (others, _),
                    self._replayed({name: self._zeroed(name, outputs[name])}, earlier),
                ):
                    without = self._logits(self._run(inputs))
                for other in self.paths:
                    if other != name and not same(others[other], outputs[other]):
                        raise ValueError(
                            f"The encoder of {other!r}, {self.paths[other][-1]}, depends on the output of {name!r}, "
                            f"so it cannot be scored without it. Name a module of {other!r} that runs before the two "
                            "meet (for a language model that is fed images, its embedding of the tokens)."
                        )
                if not torch.isfinite(without).all():
                    raise ValueError(
                        f"Without {name!r} the model predicts NaN or infinity (it may divide by the feature's norm), "
                        "so zero-out cannot score the modalities. Use features that are not normalised."
                    )
                if same([without], [joint]):
                    raise ValueError(
                        f"The prediction does not change without the output of {name!r}, {self.paths[name][-1]}. Name "
                        "the module whose output the model uses."
                    )
                if isinstance(self.features.get(name), int):
                    self._check_part(name, outputs, earlier, inputs, joint)
            alone = list(self._unimodal_logits(outputs, earlier, inputs).values())
            if len(alone) > 1 and all(same([logits], [alone[0]]) for logits in alone):
                raise ValueError(
                    f"Each of {list(self.paths)} alone predicts the same: the fusion is purely multiplicative, and "
                    "zero-out cannot score the modalities. Use a model that adds or concatenates."
                )

    def _check_calls(self, name: str, calls: Sequence[Any]) -> None:
        """Whether an encoder was called, and returns something that can be zeroed."""
        path, field = self.paths[name][-1], self.features.get(name)
        if not calls:
            raise ValueError(
                f"The encoder of {name!r}, {path}, is not called in the model's forward (as a module: a method of it, "
                "such as encoder.forward(x), is not seen). Name the module whose output the model uses, and pass its "
                "input."
            )
        for output in calls:
            if isinstance(field, int):
                part(output, field)
            if not tensors(output):
                raise ValueError(
                    f"The encoder of {name!r}, {path}, returns a {type(output).__name__}, in which no tensor is "
                    "found. Return a tensor, or a tuple, mapping, dataclass or ModelOutput of tensors."
                )
        if isinstance(self._module(path), nn.RNNBase) and not isinstance(field, int):
            raise ValueError(
                f"The encoder of {name!r}, {path}, is recurrent and returns a tuple, whose states do not have the "
                "batch in front. If the model uses its outputs only, which needs batch_first=True, pass "
                f"features={{{name!r}: 0}}. If it uses the last state, put the layer into a module that returns this "
                "state, (batch, dim), such as one whose forward is `return self.rnn(values)[1][-1]` (of an LSTM "
                "[1][0][-1]), and name that module."
            )

    def _check_gradient(self, outputs: Mapping[str, list[Any]]) -> None:
        """Warns of an encoder that is to be trained, but runs without gradient; runs once, in the first training
        forward."""
        self._gradient_is_checked = True
        for name, encoder in self.encoders.items():
            is_trained = any(parameter.requires_grad for parameter in encoder.parameters())
            if is_trained and not any(tensor.requires_grad for tensor in tensors(outputs[name])):
                warnings.warn(
                    f"The encoder of {name!r} has trainable parameters, but runs without gradient in the forward of "
                    f"{type(self.model).__name__} (torch.no_grad or detach): it does not learn. Freeze it with "
                    "requires_grad_(False) if that is meant.",
                    stacklevel=2,
                )

    def _check_part(
        self,
        name: str,
        outputs: Mapping[str, list[Any]],
        earlier: Mapping[str, list[Any]],
        inputs: Mapping[str, Any],
        joint: Tensor,
    ) -> None:
        """Whether the model uses no other part of an encoder's tuple than the one that is zeroed."""
        field = self.features[name]
        rest = [replaced(zeroed([output])[0], field, part(output, field)) for output in outputs[name]]
        with self._replayed({**outputs, name: rest}, earlier):
            logits = self._logits(self._run(inputs))
        if not same([logits], [joint]):
            raise ValueError(
                f"features takes part {field} of what the encoder of {name!r}, {self.paths[name][-1]}, returns, but "
                "the model also uses other parts of it. Put it into a module that returns what the model uses, with "
                "the batch in front, and name that module."
            )

    @contextmanager
    def _perturbed(self) -> Iterator[None]:
        """Lets the weights outside the encoders that are trained have noise on top, the same in every process.

        Sharded ones stay as they are. Nothing is changed in place, which would break a backward pass.
        """
        inside = {id(parameter) for encoder in self.encoders.values() for parameter in encoder.parameters()}
        kept = {
            parameter: parameter.data
            for parameter in self.model.parameters()
            if parameter.requires_grad and id(parameter) not in inside and not hasattr(parameter, "to_local")
        }
        generator = torch.Generator().manual_seed(0)
        try:
            for parameter, value in kept.items():
                noise = torch.randn(value.shape, generator=generator) / math.prod(value.shape[1:]) ** 0.5
                parameter.data = value + noise.to(value)
            yield
        finally:
            for parameter, value in kept.items():
                parameter.data = value

    @torch.no_grad()
    def _check_rows(
        self, outputs: Mapping[str, list[Any]], earlier: Mapping[str, list[Any]], inputs: Mapping[str, Any]
    ) -> None:
        """Whether the rows that are zeroed for a sample are its own; runs once, on the first batch of several.

        Without those of the first sample it must get what it gets without the modality, the others what they got.
        """

        def logits(changed: Mapping[str, list[Any]]) -> Tensor:
            with self._replayed({**outputs, **changed}, earlier):
                return self._logits(self._run(inputs))

        with evaluation_mode(self), self._perturbed() if self._weights_are_blind else nullcontext():
            joint = logits({})
            keep = torch.arange(len(joint), device=joint.device) > 0
            for name, calls in outputs.items():
                without = logits({name: self._zeroed(name, calls)})
                try:
                    dropped = logits({name: self._zeroed(name, calls, keep)})
                except ValueError as error:
                    raise ValueError(f"The encoder of {name!r}, {self.paths[name][-1]}: {error}") from error
                if not same([dropped], [torch.cat([without[:1], joint[1:]])]):
                    raise ValueError(
                        f"Dropping {name!r} from one sample alone does not work: in a batch of {len(joint)}, zeros in "
                        f"the first 1/{len(joint)} of the rows of the output of {self.paths[name][-1]}, of shape "
                        f"{shapes(calls)}, change another prediction than the first sample's, or leave a part of it. "
                        "Name a module whose output has the batch in front (recurrent layers: batch_first=True), and "
                        "logits that depend on their own sample only."
                    )
        self._rows_are_checked = True


def keywords(model: nn.Module) -> dict[str, inspect.Parameter]:
    """What the forward of a model names, and so can be passed by name; `*args` and `**kwargs` name nothing.

    Raises:
        ValueError: a parameter that has no name for the caller, or one that means something else here.
    """
    parameters = inspect.signature(model.forward).parameters
    found, kind = {}, type(model).__name__
    for name, parameter in parameters.items():
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise ValueError(
                f"The forward of {kind} takes {name!r} by position only, but a batch is passed by name. Take the `/` "
                "out of its signature."
            )
        if name in ("label", "label_ids"):
            raise ValueError(f"The forward of {kind} takes {name!r}, but a batch has `labels`. Rename the parameter.")
        if name in ("modality_mask", "modulation"):
            raise ValueError(
                f"The forward of {kind} takes {name!r}, which balance() keeps for itself: it zeroes what a sample "
                "lacks. Rename the parameter and its column."
            )
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            found[name] = parameter
    return found


def versions(inputs: Mapping[str, Any]) -> list[tuple[int, int]]:
    """What changes when one of the inputs' tensors is replaced, taken out or written to."""
    return [(id(tensor), tensor._version) for tensor in tensors(inputs) if not tensor.is_inference()]


def check_path(model: nn.Module, modality: str, path: str) -> None:
    """Raises ValueError, naming the closest valid one, unless the model has a module at `path`."""
    try:
        model.get_submodule(path)
    except AttributeError as error:
        names = [name for name, _ in model.named_modules() if name]
        raise ValueError(
            f"{type(model).__name__} has no module {path!r} for modality {modality!r}.{did_you_mean(path, names)} "
            f"Its parts are {[name for name, _ in model.named_children()]}."
        ) from error
    if not path:
        raise ValueError(f"The path of modality {modality!r} is empty: name a part of the model.")
    if isinstance(model.get_submodule(path), torch.jit.ScriptModule):
        raise ValueError(
            f"The encoder of {modality!r}, {path}, is a TorchScript module, whose output cannot be changed. Use the "
            "nn.Module that it was made from, or put it into a module that calls it."
        )


def check_disjoint(model: nn.Module, paths: Mapping[str, Sequence[str]]) -> None:
    """Raises ValueError if the encoder of one modality is that of another, or lies inside it."""
    owners = [(path, name) for name, owned in paths.items() for path in owned]
    for path, name in owners:
        encoder = model.get_submodule(path)
        for other, owner in owners:
            if owner == name:
                continue
            if model.get_submodule(other) is encoder:
                raise ValueError(
                    f"{path!r} of {name!r} and {other!r} of {owner!r} are one module, which cannot be zeroed for one "
                    "modality alone. Name a module of its own for each, such as an nn.Identity() that the model calls "
                    "on what the shared module returns for it."
                )
            if any(module is model.get_submodule(other) for module in encoder.modules()):
                raise ValueError(
                    f"The module {other!r} of {owner!r} lies inside {path!r} of {name!r}. Name modules that are apart."
                )
