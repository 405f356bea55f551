"""What the models of all tasks share: the forward, weight initialisation, loading, and the checks of a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from ..ground.repository_code import own_code_only
from ..ground.suggestion import did_you_mean
from ..ground.task import cross_entropy
from .bare_card import replace_blank_card
from .configuration_multimodal import ModalitiesConfig, MultimodalConfig
from .face import ModelFace
from .forward_view import ForwardView, Modulating
from .frozen import keep_frozen_statistics
from .fusion import drop_features
from .prediction import Prediction

# What PEFT, torch.compile and torch's parametrizations put into a parameter's name:
RENAMED = {"base_layer", "base_model", "original_module", "_orig_mod", "parametrizations"}


def batch_tensor(inputs: Tensor | dict[str, Tensor]) -> Tensor:
    """A tensor of a modality's input that has a row per sample."""
    values = inputs.values() if isinstance(inputs, dict) else [inputs]
    return next(value for value in values if isinstance(value, Tensor) and value.dim())


def indivisible_modules(model: nn.Module) -> set[str]:
    """Class names of the blocks in `model` that a device map or FSDP keeps whole: what its transformers encoders name,
    and torch's transformer layers."""
    named = set().union(*(m._no_split_modules or () for m in model.modules() if isinstance(m, PreTrainedModel)))
    return (named | {"TransformerEncoderLayer"}) & {type(module).__name__ for module in model.modules()}


def repeat_present(inputs: Tensor | dict[str, Tensor] | None, present: Tensor) -> Tensor | dict[str, Tensor] | None:
    """`inputs` with present samples, repeated cyclically, in the rows of the samples that are not `present (batch,)`.

    The j-th absent row gets the (j mod count)-th present one; with no present row, nothing changes. Static shapes, no
    host sync.
    """
    order = torch.argsort(~present, stable=True)  # the present rows, then the absent ones
    count = present.sum()
    count = torch.where(count > 0, count, len(present))
    source = order[torch.arange(len(present), device=present.device) % count]
    index = torch.empty_like(order).scatter(0, order, source)  # row order[k] <- row source[k]

    def pick(value: Any) -> Any:
        return value[index] if isinstance(value, Tensor) and value.shape[:1] == present.shape else value

    return {key: pick(value) for key, value in inputs.items()} if isinstance(inputs, dict) else pick(inputs)


def restore_buffers(before: Sequence[tuple[Tensor, Tensor, Tensor]]) -> None:
    """Takes back what a forward did to buffers.

    Args:
        before: per buffer itself, a copy from before, and a bool scalar: whether what it holds now stays.
    """
    for buffer, old, stays in before:
        buffer.data.copy_(torch.where(stays, buffer, old))  # .data: BatchNorm's backward does not need the values


def check_weights_not_renamed(kind: str, names: Iterable[str]) -> None:
    """Raises ValueError if weights in a file have the names that something put into the model had given them.

    Args:
        kind: the class.
        names: of the weights in the file that the model does not have.
    """
    for name in names:
        if RENAMED & set(name.split(".")):
            raise ValueError(
                f"The weights were saved with a PEFT adapter, compiled module or parametrization inside the model: "
                f"they hold {name!r}, which {kind} does not have, so its own would stay random. Build the model as it "
                "was, load_state_dict the file, merge or remove what was put in (merge_and_unload), and save it again."
            )


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


class MultimodalPreTrainedModel(ModelFace, PreTrainedModel):
    """What the models of all tasks share: the forward, weight initialisation, loading, and the checks of a batch.

    A task's model overrides `_start`, `_look`, `_score`, `_predict`, and `_join` where joining is more than dropping.

    Attributes:
        encoders: `nn.ModuleDict` by modality, in modality order; their parameters are the paper's theta^m.
        auxiliary_heads: `nn.ModuleDict` by modality, classifiers of single modalities; empty without.
    """

    config_class = MultimodalConfig
    base_model_prefix = "multimodal"
    main_input_name = "modalities"
    accepts_loss_kwargs = False
    output_class: ClassVar[type[ModelOutput]]
    encoders: nn.ModuleDict

    def __init__(self, config: ModalitiesConfig):
        super().__init__(config)
        if not config.modalities:
            raise ValueError(
                f"{type(config).__name__}.modalities is empty: give an encoder config per modality, for example "
                "{'audio': {'type': 'timm', 'architecture': 'resnet18', 'in_channels': 1}}."
            )

    def forward(
        self,
        labels: Tensor | None = None,
        modality_mask: Tensor | None = None,
        modulation: Modulating | None = None,
        **modalities: Tensor | dict[str, Tensor] | None,
    ) -> Any:
        """
        Args:
            labels: class indices `(batch,)`, or `(batch, segments)` of a model that labels segments.
            modality_mask: bool `(batch, modalities)`, False where a sample lacks a modality: its feature is zero
                and it counts in no score. Absent inputs may hold anything finite, zeros by convention; in training
                the encoder sees repeated present samples in their place, so that batch statistics are of real inputs,
                and if there are none it keeps its running statistics.
            modulation: the trainer's `ModulationStack`, or anything that has the methods of `face.Modulating`.
            modalities: one keyword per modality: a tensor (the encoder's main input), a dict of encoder keywords, or
                None when every sample lacks it. Tensors have a row per sample.
        """
        self._check_inputs(modalities, modality_mask)
        modalities = self._present_inputs(modalities, modality_mask)
        buffers = self._buffers_before(modality_mask)
        started = {name: self._started(name, modalities[name]) for name in self.encoders}
        current = self._look(started, self._present(modalities, modality_mask), labels)
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
        further = modulation.forward_losses(seen) if modulation is not None else {}
        restore_buffers(buffers)
        loss, losses = None, None
        if labels is not None:
            loss = joint = self._joint_loss(prediction, labels)
            losses = {"joint": joint}
            if self.training and own_logits:
                losses["auxiliary"] = self._auxiliary_loss(own_logits, labels, current.modality_mask)
                loss = loss + losses["auxiliary"]
        if keep_mask is None:
            shape = len(prediction.logits), len(self.encoders)
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
            return self._start(name, inputs)
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

    def why_no_unimodal_graph(self) -> str | None:
        has_own = bool(self.auxiliary_heads) and self._own_logits_are_trained
        return None if has_own or self._split is not None else self.why_not_fuse()

    @property
    def _own_logits_are_trained(self) -> bool:
        """Whether the own classifiers' losses reach the encoders."""
        return self.config.auxiliary_loss_weight is not None

    @property
    def _split(self) -> Callable[[dict[str, Tensor]], dict[str, Tensor]] | None:
        """The head's exact split of features into logits by modality; None if it has none."""
        return None

    def _joint_loss(self, prediction: Prediction, labels: Tensor) -> Tensor:
        return self.task.loss(prediction.logits, labels)

    def _auxiliary_loss(
        self, auxiliary_logits: dict[str, Tensor], labels: Tensor, modality_mask: Tensor | None
    ) -> Tensor:
        """The summed losses of the modalities' own classifiers, each over the samples that have it."""
        weight = self.config.auxiliary_loss_weight
        losses = [
            cross_entropy(logits, labels, None if modality_mask is None else modality_mask[:, column])
            for column, logits in enumerate(auxiliary_logits.values())
        ]
        return (1.0 if weight is None else weight) * sum(losses)

    @classmethod
    def from_pretrained(cls, *args: Any, output_loading_info: bool = False, **kwargs: Any) -> Any:
        """As of every transformers model.

        Raises:
            ValueError: the weights were saved with a PEFT adapter or a compiled module inside, under other names.
        """
        model, report = super().from_pretrained(*args, output_loading_info=True, **kwargs)
        check_weights_not_renamed(cls.__name__, report["unexpected_keys"])
        return (model, report) if output_loading_info else model

    def train(self, mode: bool = True) -> MultimodalPreTrainedModel:
        """As of every module, but normalisation layers whose weights are frozen stay in eval mode."""
        super().train(mode)
        if mode:
            keep_frozen_statistics(self, self.encoders.values())
        return self

    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """As in every transformers model; code that came with a repository goes along (see the config)."""
        with own_code_only(type(self)):
            super().save_pretrained(*args, **kwargs)

    def _upload_modified_files(self, working_dir: str, repo_id: str, *args: Any, **kwargs: Any) -> Any:
        """What every way of pushing a model ends in: with a card that says something, unless there is one."""
        replace_blank_card(Path(working_dir) / "README.md", self.config, type(self).__name__, repo_id)
        return super()._upload_modified_files(working_dir, repo_id, *args, **kwargs)

    def get_input_embeddings(self) -> None:
        """None: no single embedding represents all modalities. Accelerate asks before it shards a model (FSDP2)."""
        return None

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Kaiming normal (fan-out) convolutions, Xavier normal linear layers, as in the authors' code."""
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            std = getattr(module, "init_std", None)  # of a head's layers, by the config
            if std is None:
                init.xavier_normal_(module.weight)
            else:
                init.normal_(module.weight, std=std)
            if module.bias is not None:
                init.zeros_(module.bias)
        else:
            super()._init_weights(module)
        if hasattr(module, "init_non_persistent_buffers"):
            module.init_non_persistent_buffers()

    def _check_inputs(self, modalities: dict[str, Any], modality_mask: Tensor | None) -> None:
        for name in modalities:
            if name not in self.encoders:
                hint = did_you_mean(name, self.encoders)
                raise ValueError(f"Unknown modality {name!r}.{hint} The model has {list(self.encoders)}.")
        missing = [name for name in self.encoders if name not in modalities]
        if missing:
            raise ValueError(
                f"The model has the modalities {list(self.encoders)}, found no input for {missing}. "
                f"Pass {missing[0]}=None if no sample of the batch has it, or mark samples in modality_mask."
            )
        given = [inputs for inputs in modalities.values() if inputs is not None]
        if not given:
            raise ValueError(f"At least one of the modalities {list(self.encoders)} needs an input, found none.")
        if modality_mask is not None:
            expected = len(batch_tensor(given[0])), len(self.encoders)
            if modality_mask.shape != expected:
                raise ValueError(
                    f"modality_mask must have the shape (batch, modalities) = {expected}, "
                    f"found {tuple(modality_mask.shape)}."
                )

    def _present_inputs(self, modalities: dict[str, Any], modality_mask: Tensor | None) -> dict[str, Any]:
        """What the encoders get: in training, repeated present samples in the place of those that lack a modality."""
        if modality_mask is None or not self.training:
            return modalities
        present = dict(zip(self.encoders, modality_mask.bool().unbind(1), strict=True))
        return {name: repeat_present(inputs, present[name]) for name, inputs in modalities.items()}

    def _buffers_before(self, modality_mask: Tensor | None) -> list[tuple[Tensor, Tensor, Tensor]]:
        """For `restore_buffers`: in training an encoder's buffers, such as BatchNorm's statistics, stay what they are
        when no sample of the batch has the modality. Static shapes, no host sync."""
        if modality_mask is None or not self.training:
            return []
        arrives = modality_mask.bool().any(0)  # (modalities,)
        return [
            (buffer, buffer.clone(), stays)
            for encoder, stays in zip(self.encoders.values(), arrives.unbind(), strict=True)
            for buffer in encoder.buffers()
        ]

    def _present(self, modalities: dict[str, Any], modality_mask: Tensor | None) -> Tensor | None:
        """`modality_mask` with the modalities marked absent that are None."""
        given = [modalities[name] is not None for name in self.encoders]
        if all(given):
            return None if modality_mask is None else modality_mask.bool()
        inputs = next(inputs for inputs in modalities.values() if inputs is not None)
        example = batch_tensor(inputs)
        present = torch.tensor(given, device=example.device).expand(len(example), -1)
        return present if modality_mask is None else modality_mask.bool() & present
