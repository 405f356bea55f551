"""Question answering: encoders, token sequences, an architecture that joins them, one of the given answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .configuration_question_answering import QuestionAnsweringConfig
from .encoders.build import build_encoder
from .encoders.sequences import Tokens
from .fusion import drop_features, evaluation_mode
from .interaction.base import call, fill_absent
from .modeling_multimodal import (
    MultimodalClassifierOutput,
    MultimodalPreTrainedModel,
    indivisible_modules,
    restore_buffers,
)
from .precision import cross_entropy, full_precision_scores
from .question_answering import QUESTION_ANSWERING_ARCHITECTURES
from .question_answering.base import seen_tokens


@dataclass
class QuestionAnsweringOutput(MultimodalClassifierOutput):
    """Output of [`MultimodalForQuestionAnswering`]: that of a classifier, whose classes are the answers.

    Args:
        question_type: `(batch,)`, as it was given, so that an evaluation can tell the types apart.
    """

    question_type: Tensor | None = None


def replaced(tokens: Mapping[str, Tokens], values: Mapping[str, Tensor]) -> dict[str, Tokens]:
    """Tokens per modality with other values `(batch, length, dim)`."""
    return {name: given._replace(values=values[name]) for name, given in tokens.items()}


class MultimodalForQuestionAnswering(MultimodalPreTrainedModel):
    """Answers questions about sound, picture and more; the question counts as a modality.

    Each modality's encoder makes a token sequence; modulations see these; the architecture joins them (see
    `models/question_answering`). A modality's own prediction is that of the architecture when it sees the tokens of
    this modality alone.

    Args:
        config: with at least the question's modality.

    Raises:
        ValueError: no modality takes token ids and none is named as the question, or an encoder cannot be built.

    Example:

    ```python
    >>> import torch
    >>> from hf_bml import MultimodalForQuestionAnswering, QuestionAnsweringConfig
    >>> config = QuestionAnsweringConfig(
    ...     modalities={
    ...         "text": {"type": "lstm", "vocab_size": 93, "hidden_size": 8},
    ...         "audio": {"type": "sequence", "input_size": 5, "hidden_size": 8, "num_layers": 0},
    ...     },
    ...     architecture_options={"hidden_size": 8},
    ...     num_labels=42,
    ... )
    >>> model = MultimodalForQuestionAnswering(config)
    >>> output = model(text=torch.tensor([[3, 8, 2], [5, 1, 7]]), audio=torch.randn(2, 10, 5))
    >>> output.logits.shape, output.unimodal_logits["audio"].shape
    (torch.Size([2, 42]), torch.Size([2, 42]))

    ```
    """

    config_class = QuestionAnsweringConfig

    def __init__(self, config: QuestionAnsweringConfig):
        super().__init__(config)
        self.encoders = nn.ModuleDict(
            {modality: build_encoder(modality, options) for modality, options in config.modalities.items()}
        )
        config.question = config.question or self._find_question()
        names = [config.question, *(name for name in self.encoders if name != config.question)]
        self.sizes = {name: encoder.token_size for name, encoder in self.encoders.items()}
        self.architecture = QUESTION_ANSWERING_ARCHITECTURES[config.architecture](
            {name: self.sizes[name] for name in names}, config.num_labels, config.architecture_config
        )
        self.auxiliary_heads = nn.ModuleDict()
        if config.auxiliary_loss_weight is not None:
            for name, size in self.sizes.items():
                self.auxiliary_heads[name] = nn.Linear(size, config.num_labels)
        self.post_init()
        self._no_split_modules = indivisible_modules(self)

    def _find_question(self) -> str:
        for name, encoder in self.encoders.items():
            if getattr(encoder, "takes_token_ids", False):
                return name
        raise ValueError(
            f"None of the modalities {list(self.encoders)} takes token ids, so none is the question. Name it in the "
            "config, such as question: text, or give it an encoder of type lstm or transformers."
        )

    @property
    def input_columns(self) -> list[str]:
        """The columns of a dataset that the model reads beside labels."""
        return [*self.encoders, "question_type"]

    @property
    def required_columns(self) -> list[str]:
        """Those that every dataset must have."""
        return list(self.encoders)

    def forward(
        self,
        labels: Tensor | None = None,
        modality_mask: Tensor | None = None,
        modulation: Any = None,
        question_type: Tensor | None = None,
        **modalities: Tensor | dict[str, Tensor] | None,
    ) -> QuestionAnsweringOutput:
        """
        Args:
            labels: answers `(batch,)`, int64.
            modality_mask: as of [`MultimodalForClassification`].
            modulation: the same; its `modulate_features` sees tokens `(batch, length, dim)`, zero where padded.
            question_type: `(batch,)`, handed through.
            modalities: one keyword per modality, as of [`MultimodalForClassification`].
        """
        self._check_inputs(modalities, modality_mask)
        modalities = self._present_inputs(modalities, modality_mask)
        buffers = self._buffers_before(modality_mask)
        started = {name: self._start(name, modalities[name]) for name in self.encoders}
        modality_mask = self._present(modalities, modality_mask)
        tokens = self._filled(started, modality_mask)
        values = {name: given.values for name, given in tokens.items()}
        features = fill_absent(
            {name: None if started[name] is None else tokens[name].mean() for name in tokens},
            self.sizes,
            modality_mask,
        )
        auxiliary_logits = {name: head(features[name]) for name, head in self.auxiliary_heads.items()}
        given = {name: tokens[name] for name in tokens if started[name] is not None}
        unimodal_logits = self._unimodal_logits(given)
        keep_mask = modality_mask
        if modulation is not None:
            keep_mask = modulation.keep_modalities(unimodal_logits, modality_mask)
            if keep_mask is not None:
                values = drop_features(values, keep_mask)
            values = modulation.modulate_features(values, keep_mask)
        logits = self.architecture(self._kept(replaced(given, values), keep_mask))
        restore_buffers(buffers)
        loss = None
        if labels is not None:
            loss = cross_entropy(logits, labels)
            if self.training and auxiliary_logits:
                loss = loss + self._auxiliary_loss(auxiliary_logits, labels, modality_mask)
        if keep_mask is None:
            keep_mask = torch.ones(len(logits), len(features), dtype=torch.bool, device=logits.device)
        return QuestionAnsweringOutput(
            loss=loss,
            logits=logits,
            unimodal_logits=unimodal_logits,
            features=features,
            auxiliary_logits=auxiliary_logits or None,
            keep_mask=keep_mask,
            modality_mask=modality_mask,
            question_type=question_type,
        )

    def _start(self, name: str, inputs: Tensor | dict[str, Tensor] | None) -> Tokens | None:
        if inputs is None:
            return None
        try:
            return call(self.encoders[name].tokens, inputs)
        except (TypeError, ValueError) as error:
            raise type(error)(f"Modality {name!r}: {error}") from error

    def _filled(self, started: Mapping[str, Tokens | None], modality_mask: Tensor | None) -> dict[str, Tokens]:
        """Tokens with a mask, zero where that is False; one such token where the whole batch lacks a modality."""
        example = next(tokens.values for tokens in started.values() if tokens is not None)
        filled = {}
        for column, (name, tokens) in enumerate(started.items()):
            if tokens is None:
                tokens = Tokens(example.new_zeros(len(example), 1, self.sizes[name]))
            seen = seen_tokens(tokens)
            if modality_mask is not None:
                seen = seen & modality_mask[:, column, None]
            values = torch.where(seen.unsqueeze(2), tokens.values, 0.0)
            filled[name] = tokens._replace(values=values, mask=seen)
        return filled

    def _kept(self, tokens: Mapping[str, Tokens], keep_mask: Tensor | None) -> dict[str, Tokens]:
        """The tokens with those modalities masked that a sample does not keep."""
        if keep_mask is None:
            return dict(tokens)
        keep = dict(zip(self.encoders, keep_mask.bool().unbind(1), strict=True))
        return {name: given._replace(mask=given.mask & keep[name].unsqueeze(1)) for name, given in tokens.items()}

    def _unimodal_logits(self, tokens: Mapping[str, Tokens]) -> dict[str, Tensor]:
        """What the architecture predicts from each modality alone, in eval mode; the others' tokens are masked.

        Detached, computed outside autocast in float32 or better.
        """

        def predict(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
            with evaluation_mode(self.architecture):
                alone = {name: self.architecture({name: given}) for name, given in replaced(tokens, values).items()}
            if len(alone) < len(self.encoders):
                nothing = {
                    name: given._replace(mask=torch.zeros_like(given.mask))
                    for name, given in replaced(tokens, values).items()
                }
                with evaluation_mode(self.architecture):
                    without = self.architecture(nothing)
                alone = {name: alone.get(name, without) for name in self.encoders}
            return alone

        dtype = next(self.architecture.parameters()).dtype
        return full_precision_scores(predict, {name: given.values for name, given in tokens.items()}, dtype)
