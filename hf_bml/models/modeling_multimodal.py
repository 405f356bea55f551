"""Multimodal models: encoders, features, fusion head."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from ..ground.repository_code import own_code_only
from ..ground.suggestion import did_you_mean
from .bare_card import replace_blank_card
from .configuration_multimodal import ModalitiesConfig, MultimodalConfig
from .encoders.build import build_encoder
from .frozen import keep_frozen_statistics
from .fusion import evaluation_mode
from .interaction import INTERACTIONS, Interaction, fill_absent
from .precision import cross_entropy, full_precision_scores

# What PEFT, torch.compile and torch's parametrizations put into a parameter's name:
RENAMED = {"base_layer", "base_model", "original_module", "_orig_mod", "parametrizations"}


@dataclass
class MultimodalClassifierOutput(ModelOutput):
    """Output of [`MultimodalForClassification`].

    Args:
        loss: cross-entropy, a scalar, when labels are given; in training with the auxiliary heads' part.
        logits: `(batch, num_labels)`.
        unimodal_logits: per modality `(batch, num_labels)`, what that modality alone predicts; detached, float32.
        features: per modality `(batch, dim)`, what the fusion head would see without modulation; with an interaction,
            what each modality computes alone.
        auxiliary_logits: per modality `(batch, num_labels)` of its own classifier, if the model has such.
        keep_mask: bool `(batch, modalities)`, the modalities that reached the head.
        modality_mask: bool `(batch, modalities)`, the modalities the samples have; None if no sample lacks one.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    unimodal_logits: dict[str, Tensor] | None = None
    features: dict[str, Tensor] | None = None
    auxiliary_logits: dict[str, Tensor] | None = None
    keep_mask: Tensor | None = None
    modality_mask: Tensor | None = None


def batch_tensor(inputs: Tensor | dict[str, Tensor]) -> Tensor:
    """A tensor of a modality's input that has a row per sample."""
    values = inputs.values() if isinstance(inputs, dict) else [inputs]
    return next(value for value in values if isinstance(value, Tensor) and value.dim())


def indivisible_modules(model: nn.Module) -> set[str]:
    """Class names of the blocks in `model` that a device map or FSDP keeps whole: what its transformers encoders name,
    and torch's transformer layers."""
    named = {name for module in model.modules() for name in getattr(module, "_no_split_modules", None) or ()}
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


class MultimodalPreTrainedModel(PreTrainedModel):
    """What the models of all tasks share: weight initialisation, loading, and the checks of a batch.

    Attributes:
        encoders: `nn.ModuleDict` by modality, in modality order; their parameters are the paper's theta^m.
        gradient_enters_by_features: whether the loss reaches an encoder's parameters only through the feature that
            modulations see.
    """

    config_class = MultimodalConfig
    base_model_prefix = "multimodal"
    main_input_name = "modalities"
    accepts_loss_kwargs = False
    gradient_enters_by_features = True
    encoders: nn.ModuleDict

    def __init__(self, config: ModalitiesConfig):
        super().__init__(config)
        if not config.modalities:
            raise ValueError(
                f"{type(config).__name__}.modalities is empty: give an encoder config per modality, for example "
                "{'audio': {'type': 'timm', 'architecture': 'resnet18', 'in_channels': 1}}."
            )

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
        """None: no single embedding stands for all modalities. Accelerate asks before it shards a model (FSDP2)."""
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

    def _auxiliary_loss(
        self, auxiliary_logits: dict[str, Tensor], labels: Tensor, modality_mask: Tensor | None
    ) -> Tensor:
        """The summed cross-entropies of the modalities' own classifiers, each over the samples that have it."""
        weight = self.config.auxiliary_loss_weight
        losses = [
            cross_entropy(logits, labels, None if modality_mask is None else modality_mask[:, column])
            for column, logits in enumerate(auxiliary_logits.values())
        ]
        return (1.0 if weight is None else weight) * sum(losses)


class MultimodalForClassification(MultimodalPreTrainedModel):
    """One encoder per modality, a fusion head, and the unimodal predictions that balancing needs (paper Sec. 3.1).

    `encoders[name]` is the encoder of a modality; its parameters are the paper's theta^m.

    Args:
        config: with at least one modality.

    Raises:
        ValueError: no modality, or an encoder that cannot be built.

    Example:

    ```python
    >>> import torch
    >>> from hf_bml import MultimodalConfig, MultimodalForClassification
    >>> config = MultimodalConfig(
    ...     modalities={
    ...         "audio": {"type": "conv", "in_channels": 1, "channels": [4, 8]},
    ...         "text": {"type": "sequence", "input_size": 5, "hidden_size": 8, "num_heads": 2},
    ...     },
    ...     num_labels=3,
    ... )
    >>> model = MultimodalForClassification(config)
    >>> output = model(audio=torch.randn(2, 1, 16, 16), text=torch.randn(2, 7, 5), labels=torch.tensor([0, 2]))
    >>> output.logits.shape, output.unimodal_logits["text"].shape
    (torch.Size([2, 3]), torch.Size([2, 3]))

    ```
    """

    def __init__(self, config: MultimodalConfig):
        super().__init__(config)
        interaction_class = INTERACTIONS.get(config.interaction, Interaction)
        self.encoders = nn.ModuleDict(
            {
                modality: build_encoder(modality, options, staged=interaction_class.staged)
                for modality, options in config.modalities.items()
            }
        )
        self.interaction = interaction_class(self.encoders, config.interaction_config)
        self.head = self.interaction.build_head(config)
        for module in self.head.modules():
            if isinstance(module, nn.Linear):
                module.init_std = config.head_init_std
        self.auxiliary_heads = nn.ModuleDict()
        if config.auxiliary_loss_weight is not None or config.unimodal_prediction == "probe":
            for name, size in self.interaction.own_sizes.items():
                self.auxiliary_heads[name] = nn.Linear(size, config.num_labels)
        if self.head.zero_out_is_blind and config.unimodal_prediction != "probe":
            warnings.warn(
                f"fusion {config.fusion!r} is purely multiplicative: with one modality alone it predicts the same, "
                "whatever was learned, so all discrepancy ratios stay 1 and nothing is modulated. Set "
                "unimodal_prediction: probe.",
                stacklevel=2,
            )
        self.post_init()
        self._no_split_modules = indivisible_modules(self)

    def forward(
        self,
        labels: Tensor | None = None,
        modality_mask: Tensor | None = None,
        modulation: Any = None,
        **modalities: Tensor | dict[str, Tensor] | None,
    ) -> MultimodalClassifierOutput:
        """
        Args:
            labels: class indices `(batch,)`.
            modality_mask: bool `(batch, modalities)`, False where a sample lacks a modality: its feature is zero
                and it counts in no score. Absent inputs may hold anything finite, zeros by convention; in training
                the encoder sees repeated present samples in their place, so that batch statistics are of real inputs,
                and if there are none it keeps its running statistics.
            modulation: the trainer's `ModulationStack`, or whatever has its `keep_modalities(unimodal_logits,
                modality_mask)` and, called after it, `modulate_features(features, keep_mask)`.
            modalities: one keyword per modality: a tensor (the encoder's main input), a dict of encoder keywords, or
                None when every sample lacks it. Tensors have a row per sample.
        """
        self._check_inputs(modalities, modality_mask)
        modalities = self._present_inputs(modalities, modality_mask)
        buffers = self._buffers_before(modality_mask)
        started = {name: self._start(name, modalities[name]) for name in self.encoders}
        modality_mask = self._present(modalities, modality_mask)
        features = self._unimodal_features(started, modality_mask)
        auxiliary_logits = self._auxiliary_logits(features)
        unimodal_logits = self._unimodal_logits(features)
        keep_mask = modality_mask
        if modulation is not None:
            keep_mask = modulation.keep_modalities(unimodal_logits, modality_mask)
        seen = self.interaction(self.encoders, started, keep_mask)
        if modulation is not None:
            seen = modulation.modulate_features(seen, keep_mask)
        logits = self.head(seen)
        restore_buffers(buffers)
        loss = None
        if labels is not None:
            loss = cross_entropy(logits, labels)
            if self.training and auxiliary_logits:
                loss = loss + self._auxiliary_loss(auxiliary_logits, labels, modality_mask)
        if keep_mask is None:
            keep_mask = torch.ones(len(logits), len(features), dtype=torch.bool, device=logits.device)
        return MultimodalClassifierOutput(
            loss=loss,
            logits=logits,
            unimodal_logits=unimodal_logits,
            features=features,
            auxiliary_logits=auxiliary_logits or None,
            keep_mask=keep_mask,
            modality_mask=modality_mask,
        )

    def _start(self, name: str, inputs: Tensor | dict[str, Tensor] | None) -> Any:
        if inputs is None:
            return None
        try:
            return self.interaction.start(self.encoders[name], inputs)
        except (TypeError, ValueError) as error:
            raise type(error)(f"Modality {name!r}: {error}") from error

    def _unimodal_features(self, started: dict[str, Any], modality_mask: Tensor | None) -> dict[str, Tensor]:
        """The feature of each modality when it is alone, `(batch, dim)`, zero where it is absent.

        With an interaction that mixes modalities it takes a pass of its own, without gradient and in eval mode.
        """
        if self.interaction.features_are_unimodal:
            return self.interaction(self.encoders, started, modality_mask)
        with torch.no_grad(), evaluation_mode(self):
            features = {
                name: None if state is None else self.interaction.alone(self.encoders, name, state)
                for name, state in started.items()
            }
        return fill_absent(features, self.interaction.sizes, modality_mask)

    def _auxiliary_logits(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """What each modality's own classifier predicts; a probe learns without the encoder noticing."""
        if self.config.auxiliary_loss_weight is None:
            features = {name: feature.detach() for name, feature in features.items()}
        return {name: head(self.interaction.own(name, features[name])) for name, head in self.auxiliary_heads.items()}

    def _unimodal_logits(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Detached unimodal predictions, computed outside autocast in float32 or better."""
        predict = {"probe": self._auxiliary_logits, "zero_out": self.head.zero_out_logits}.get(
            self.config.unimodal_prediction, self.head.unimodal_logits
        )
        return full_precision_scores(predict, features, next(self.head.parameters()).dtype)
