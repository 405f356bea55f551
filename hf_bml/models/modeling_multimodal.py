"""Classification of samples: an encoder per modality, features, a fusion head."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.utils import ModelOutput

from ..ground.task import RegressionTask
from .configuration_multimodal import MultimodalConfig
from .encoders.build import build_encoder
from .forward_view import call_detached
from .fusion import evaluation_mode
from .interaction import INTERACTIONS, Interaction, fill_absent
from .precision import full_precision_scores
from .prediction import Prediction
from .pretrained import MultimodalPreTrainedModel, Pass


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
        losses: in training with labels, what `loss` is the sum of, `joint` and `auxiliary`, and what modulations add.
        scored_rows: int64 `(rows,)`, the samples that `unimodal_logits` are of, if not all (see [`balance`]).
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    unimodal_logits: dict[str, Tensor] | None = None
    features: dict[str, Tensor] | None = None
    auxiliary_logits: dict[str, Tensor] | None = None
    keep_mask: Tensor | None = None
    modality_mask: Tensor | None = None
    losses: dict[str, Tensor] | None = None
    scored_rows: Tensor | None = None


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

    output_class = MultimodalClassifierOutput

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
        if self.head.zero_out_is_blind and config.unimodal_prediction != "probe":
            warnings.warn(
                f"fusion {config.fusion!r} is purely multiplicative: with one modality alone it predicts the same, "
                "whatever was learned, so all discrepancy ratios stay 1 and nothing is modulated. Set "
                "unimodal_prediction: probe.",
                stacklevel=2,
            )
        self._complete(self.interaction.own_sizes, config.unimodal_prediction == "probe")

    def _start(self, name: str, inputs: Tensor | dict[str, Tensor]) -> Any:
        return self.interaction.start(self.encoders[name], inputs)

    def _look(self, started: dict[str, Any], modality_mask: Tensor | None, labels: Tensor | None) -> Pass:
        """The feature of each modality when it is alone, `(batch, dim)`, zero where it is absent.

        With an interaction that mixes modalities it takes a pass of its own, without gradient and in eval mode.
        """
        if self.interaction.features_are_unimodal:
            features = self.interaction(self.encoders, started, modality_mask)
        else:
            with torch.no_grad(), evaluation_mode(self):
                alone = {
                    name: None if state is None else self.interaction.alone(self.encoders, name, state)
                    for name, state in started.items()
                }
            features = fill_absent(alone, self.interaction.sizes, modality_mask)
        return Pass(started, modality_mask, features, own_logits=self._classified(features))

    def _classified(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """What each modality's own classifier predicts; a probe learns without the encoder noticing."""
        if not self._own_logits_are_trained:
            features = {name: feature.detach() for name, feature in features.items()}
        return self._in_units(
            {name: head(self.own_feature(name, features[name])) for name, head in self.auxiliary_heads.items()}
        )

    def _in_units(self, logits: dict[str, Tensor]) -> dict[str, Tensor]:
        """What heads say, in the units of the labels."""
        if isinstance(self.task, RegressionTask):
            return {name: self.task.in_units(each) for name, each in logits.items()}
        return logits

    def standardise_labels(self, mean: list[float], std: list[float]) -> None:
        if isinstance(self.task, RegressionTask) and self.config.label_mean is None:
            self.config.label_mean, self.config.label_std = mean, std
            self.task.standardise(mean, std)

    def own_feature(self, modality: str, feature: Any) -> Any:
        return self.interaction.own(modality, feature)

    def _score(self, current: Pass) -> dict[str, Tensor]:
        predict = {"probe": self._classified, "zero_out": self.head.zero_out_logits}.get(
            self.config.unimodal_prediction, self.head.unimodal_logits
        )
        found = full_precision_scores(predict, current.shown, next(self.head.parameters()).dtype)
        return found if predict == self._classified else self._in_units(found)

    @property
    def _split(self) -> Callable[[dict[str, Tensor]], dict[str, Tensor]] | None:
        is_exact = self.head.splits_exactly and not isinstance(self.task, RegressionTask)
        return self.head.unimodal_logits if is_exact else None

    def _join(self, current: Pass, keep_mask: Tensor | None) -> dict[str, Tensor]:
        return self.interaction(self.encoders, current.started, keep_mask)

    def _predict(
        self, current: Pass, seen: dict[str, Tensor], keep_mask: Tensor | None, detached: bool = False
    ) -> Prediction:
        logits = call_detached(self.head, seen) if detached else self.head(seen)
        return Prediction(self.task.in_units(logits) if isinstance(self.task, RegressionTask) else logits)

    @property
    def gradient_enters_by_features(self) -> bool:
        """Not where the encoders exchange more than features, nor past them, to classifiers of single modalities."""
        return self.interaction.features_are_unimodal and not self.trains_own_heads

    def head_parameters(self) -> list[nn.Parameter]:
        return list(self.head.parameters())

    def why_no_head_graph(self) -> str | None:
        if self.head.zero_out_is_blind:
            return f"fusion {self.config.fusion!r} predicts the same from each modality alone. Use another fusion."
        if not self.interaction.features_are_unimodal:
            return self.why_not_fuse()
        if isinstance(self.task, RegressionTask) and self.head.splits_exactly and len(self.encoders) > 1:
            return (
                "In a regression the prediction is the sum of the modalities' shares, so that each of them cannot fit "
                "the labels by itself. Set auxiliary_loss_weight: 0 (classifiers of single modalities; heads: own of "
                "multi_loss), or use fusion: average_logits or shared."
            )
        return super().why_no_head_graph()

    def why_no_exact_split(self) -> str | None:
        if isinstance(self.task, RegressionTask):
            return "The mean of the labels, which a regression adds, is no modality's. Leave the method out."
        shares = self.config.bias_split
        if shares and not math.isclose(sum(shares.values()), 1):
            return f"The shares of its bias must sum to 1, found bias_split: {shares}."
        return None if self.head.splits_exactly else super().why_no_exact_split()

    @torch.no_grad()
    def shares_when_absent(self) -> dict[str, Tensor] | None:
        if self.config.unimodal_prediction != "auto" or self.why_no_exact_split() or self.why_not_fuse():
            return None
        weight = next(self.head.parameters())
        nothing = {name: weight.new_zeros(1, size) for name, size in self.interaction.sizes.items()}
        return {name: share[0] for name, share in self.head.unimodal_logits(nothing).items()}

    def why_not_fuse(self) -> str | None:
        if self.config.interaction is None:
            return None
        return (
            f"With interaction {self.config.interaction!r} the joint prediction is not a function of the modalities' "
            "own features. Use late fusion (interaction: null)."
        )
