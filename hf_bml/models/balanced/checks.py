"""Whether a model can be balanced: before its first forward, and in it."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ...ground.suggestion import did_you_mean
from ..fusion import evaluation_mode
from .outputs import copied, part, replaced, rows_of, same, shapes, tensors, zeroed
from .replay import ReplayedModel


class CheckedModel(ReplayedModel):
    """A wrapped model that finds out, in its first forwards, whether zero-out can score its modalities."""

    _structure_is_checked = _rows_are_checked = _weights_are_blind = _gradient_is_checked = False
    _fraction_is_checked = False
    _is_called_once = False  # each encoder, in a forward

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
            self._expect(inputs)
            with self._recorded() as (outputs, earlier):
                joint = self._logits(self.model(**given))
            self._inputs_are_changed = versions(given) != before
            self._is_called_once = all(len(calls) == 1 for calls in outputs.values())
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
            if parameter.requires_grad and id(parameter) not in inside and not isinstance(parameter, DTensor)
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
                dropped = logits({name: self._zeroed(name, calls, keep)})
                if not same([dropped], [torch.cat([without[:1], joint[1:]])]):
                    raise ValueError(
                        f"Dropping {name!r} from one sample alone does not work: in a batch of {len(joint)}, zeros in "
                        f"the first 1/{len(joint)} of the rows of the output of {self.paths[name][-1]}, of shape "
                        f"{shapes(calls)}, change another prediction than the first sample's, or leave a part of it. "
                        "Name a module whose output has the batch in front (recurrent layers: batch_first=True), and "
                        "logits that depend on their own sample only."
                    )
        self._rows_are_checked = True

    @torch.no_grad()
    def _check_fraction(
        self,
        outputs: Mapping[str, list[Any]],
        earlier: Mapping[str, list[Any]],
        inputs: Mapping[str, Any],
        rows: Tensor,
        samples: int,
    ) -> None:
        """Whether the rest of the model predicts the same of some samples alone; runs once, on the first batch that is
        scored in part."""
        refused = (
            f"expected {type(self.model).__name__} to predict the same of {len(rows)} samples alone as in their batch "
            f"of {samples}, found {{}}. Leave score_fraction={self.score_fraction} out, or pass tensors with the "
            "batch in front, and name encoders that return such."
        )
        with evaluation_mode(self), self._perturbed() if self._weights_are_blind else nullcontext():
            with self._replayed(outputs, earlier):
                expected = self._logits(self._run(inputs))[rows]
            try:
                parts = [rows_of(each, rows, samples) for each in (dict(outputs), dict(earlier), dict(inputs))]
                with self._replayed(parts[0], parts[1]):
                    found = self._logits(self._run(parts[2]))
            except Exception as error:  # of the user's model, which may raise anything
                raise ValueError(refused.format(f"{type(error).__name__}: {error}")) from error
        if not same([found], [expected]):
            raise ValueError(refused.format("other logits"))
        self._fraction_is_checked = True


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
        if name in ("modality_mask", "modulation", "score_modalities"):
            raise ValueError(
                f"The forward of {kind} takes {name!r}, which balance() keeps for itself. Rename the parameter and "
                "its column."
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
