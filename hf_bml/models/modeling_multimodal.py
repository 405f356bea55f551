"""Multimodal models: encoders, features, fusion head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from ..suggestion import did_you_mean
from .configuration_multimodal import MultimodalConfig
from .encoders import build_encoder
from .fusion import FUSIONS


@dataclass
class MultimodalClassifierOutput(ModelOutput):
    """Output of [`MultimodalForClassification`].

    Args:
        loss: cross-entropy, a scalar, when labels are given.
        logits: `(batch, num_labels)`.
        unimodal_logits: per modality `(batch, num_labels)`, what that modality alone predicts; detached, float32.
        features: per modality `(batch, dim)`, before any modulation.
        keep_mask: bool `(batch, modalities)`, the modalities that reached the head.
        modality_mask: bool `(batch, modalities)`, the modalities the samples have; None if no sample lacks one.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    unimodal_logits: dict[str, Tensor] | None = None
    features: dict[str, Tensor] | None = None
    keep_mask: Tensor | None = None
    modality_mask: Tensor | None = None


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


class MultimodalPreTrainedModel(PreTrainedModel):
    """Weight initialisation and loading shared by the multimodal models."""

    config_class = MultimodalConfig
    base_model_prefix = "multimodal"
    main_input_name = "modalities"
    accepts_loss_kwargs = False

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Kaiming normal (fan-out) convolutions, Xavier normal linear layers, as in the authors' code."""
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            init.xavier_normal_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        else:
            super()._init_weights(module)
        if hasattr(module, "init_non_persistent_buffers"):
            module.init_non_persistent_buffers()


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
        if not config.modalities:
            raise ValueError(
                "MultimodalConfig.modalities is empty: give an encoder config per modality, for example "
                "{'audio': {'type': 'timm', 'architecture': 'resnet18', 'in_channels': 1}}."
            )
        self.encoders = nn.ModuleDict(
            {modality: build_encoder(modality, options) for modality, options in config.modalities.items()}
        )
        self.head = FUSIONS[config.fusion](
            {modality: encoder.output_size for modality, encoder in self.encoders.items()}, config
        )
        self.post_init()

    def forward(
        self,
        labels: Tensor | None = None,
        modality_mask: Tensor | None = None,
        modulate_features: Callable[..., tuple[dict[str, Tensor], Tensor | None]] | None = None,
        **modalities: Tensor | dict[str, Tensor] | None,
    ) -> MultimodalClassifierOutput:
        """
        Args:
            labels: class indices `(batch,)`.
            modality_mask: bool `(batch, modalities)`, False where a sample lacks a modality: its feature is zero
                and it counts in no score. Absent inputs may hold anything finite, zeros by convention; in training
                the encoder sees repeated present samples in their place, so that batch statistics are of real inputs.
            modulate_features: called as `f(features, unimodal_logits, labels, modality_mask)`, returns the features
                that the head sees and a keep mask; the trainer passes it while training.
            modalities: one keyword per modality: a tensor (the encoder's main input), a dict of encoder keywords, or
                None when every sample lacks it. Tensors have a row per sample.
        """
        self._check_inputs(modalities, modality_mask)
        if modality_mask is not None and self.training:
            present = dict(zip(self.encoders, modality_mask.bool().unbind(1), strict=True))
            modalities = {name: repeat_present(inputs, present[name]) for name, inputs in modalities.items()}
        features = {name: self._encode(name, modalities[name]) for name in self.encoders}
        features, modality_mask = self._fill_absent(features, modality_mask)
        unimodal_logits = self._unimodal_logits(features)
        seen, keep_mask = features, modality_mask
        if modulate_features is not None:
            seen, keep_mask = modulate_features(features, unimodal_logits, labels, modality_mask)
        logits = self.head(seen)
        loss = None
        if labels is not None:
            loss = nn.functional.cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), labels)
        if keep_mask is None:
            keep_mask = torch.ones(len(logits), len(features), dtype=torch.bool, device=logits.device)
        return MultimodalClassifierOutput(
            loss=loss,
            logits=logits,
            unimodal_logits=unimodal_logits,
            features=features,
            keep_mask=keep_mask,
            modality_mask=modality_mask,
        )

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
            values = given[0].values() if isinstance(given[0], dict) else given
            expected = next((len(v) for v in values if isinstance(v, Tensor) and v.dim()), 0), len(self.encoders)
            if modality_mask.shape != expected:
                raise ValueError(
                    f"modality_mask must have the shape (batch, modalities) = {expected}, "
                    f"found {tuple(modality_mask.shape)}."
                )

    def _encode(self, name: str, inputs: Tensor | dict[str, Tensor] | None) -> Tensor | None:
        if inputs is None:
            return None
        try:
            return self.encoders[name](**inputs) if isinstance(inputs, dict) else self.encoders[name](inputs)
        except (TypeError, ValueError) as error:
            raise type(error)(f"Modality {name!r}: {error}") from error

    def _fill_absent(
        self, features: dict[str, Tensor | None], modality_mask: Tensor | None
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """Zeroes what samples lack; a modality that was None gets zeros and is marked absent in the mask."""
        given = [feature for feature in features.values() if feature is not None]
        if len(given) < len(features):
            present = torch.tensor([feature is not None for feature in features.values()], device=given[0].device)
            given_mask = present.expand(len(given[0]), -1)
            modality_mask = given_mask if modality_mask is None else modality_mask.bool() & given_mask
            features = {
                name: given[0].new_zeros(len(given[0]), self.encoders[name].output_size)
                if feature is None
                else feature
                for name, feature in features.items()
            }
        if modality_mask is None:
            return features, None
        modality_mask = modality_mask.bool()
        return {
            name: torch.where(present.unsqueeze(1), feature, 0.0)
            for (name, feature), present in zip(features.items(), modality_mask.unbind(1), strict=True)
        }, modality_mask

    @torch.no_grad()
    def _unimodal_logits(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Detached unimodal predictions, computed outside autocast in float32 or better."""
        device = next(iter(features.values())).device
        with torch.autocast(device.type, enabled=False):
            parameter_dtype = next(self.head.parameters()).dtype
            detached = {name: feature.detach().to(parameter_dtype) for name, feature in features.items()}
            logits = self.head.unimodal_logits(detached)
        return {name: value.to(torch.promote_types(value.dtype, torch.float32)) for name, value in logits.items()}
