"""Question answering: encoders, token sequences, an architecture that joins them, one of the given answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .configuration_question_answering import QuestionAnsweringConfig
from .encoders.build import build_encoder
from .encoders.sequences import Tokens, seen_tokens
from .forward_view import Modulating, call_detached
from .fusion import evaluation_mode
from .interaction.base import call, fill_absent
from .modeling_multimodal import MultimodalClassifierOutput
from .precision import full_precision_scores
from .prediction import Prediction
from .pretrained import MultimodalPreTrainedModel, Pass
from .question_answering import QUESTION_ANSWERING_ARCHITECTURES


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
    output_class = QuestionAnsweringOutput

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
        self._complete(self.sizes)

    def _find_question(self) -> str:
        for name, encoder in self.encoders.items():
            if encoder.takes_token_ids:
                return name
        raise ValueError(
            f"None of the modalities {list(self.encoders)} takes token ids, so none is the question. Name it in the "
            "config, such as question: text, or give it an encoder of type lstm or transformers."
        )

    @property
    def input_columns(self) -> list[str]:
        """The columns of a dataset that the model reads beside labels."""
        return [*self.encoders, "question_type"]

    def forward(
        self,
        labels: Tensor | None = None,
        modality_mask: Tensor | None = None,
        modulation: Modulating | None = None,
        sample_weight: Tensor | None = None,
        question_type: Tensor | None = None,
        **modalities: Tensor | dict[str, Tensor] | None,
    ) -> QuestionAnsweringOutput:
        """
        Args:
            labels: answers `(batch,)`, int64.
            modality_mask: as of [`MultimodalForClassification`].
            modulation: the same; its `modulate_features` sees tokens `(batch, length, dim)`, zero where padded.
            sample_weight: as of [`MultimodalForClassification`].
            question_type: `(batch,)`, handed through.
            modalities: one keyword per modality, as of [`MultimodalForClassification`].
        """
        output = super().forward(labels, modality_mask, modulation, sample_weight, **modalities)
        output["question_type"] = question_type
        return output

    def _start(self, name: str, inputs: Tensor | dict[str, Tensor]) -> Tokens:
        return call(self.encoders[name].tokens, inputs)

    def _look(self, started: dict[str, Tokens | None], modality_mask: Tensor | None, labels: Tensor | None) -> Pass:
        tokens = self._filled(started, modality_mask)
        means = {name: None if started[name] is None else tokens[name].mean() for name in tokens}
        features = fill_absent(means, self.sizes, modality_mask)
        own_logits = {name: head(features[name]) for name, head in self.auxiliary_heads.items()}
        given = {name: tokens[name] for name in tokens if started[name] is not None}
        shown = {name: each.values for name, each in tokens.items()}
        return Pass(given, modality_mask, shown, features, own_logits)

    def _predict(
        self, current: Pass, seen: dict[str, Tensor], keep_mask: Tensor | None, detached: bool = False
    ) -> Prediction:
        tokens = self._kept(replaced(current.started, seen), keep_mask)
        return Prediction(call_detached(self.architecture, tokens) if detached else self.architecture(tokens))

    def _filled(self, started: Mapping[str, Tokens | None], modality_mask: Tensor | None) -> dict[str, Tokens]:
        """Tokens with a mask, zero where that is False; one such token where the whole batch lacks a modality."""
        example = next(tokens.values for tokens in started.values() if tokens is not None)
        filled = {}
        for column, (name, tokens) in enumerate(started.items()):
            if tokens is None:
                tokens = Tokens(example.new_zeros(example.shape[0], 1, self.sizes[name]))
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

    def _score(self, current: Pass) -> dict[str, Tensor]:
        """What the architecture predicts from each modality alone, in eval mode; the others' tokens are masked."""
        tokens = current.started

        def predict(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
            given = replaced(tokens, values)
            with evaluation_mode(self.architecture):
                alone = {name: self.architecture({name: each}) for name, each in given.items()}
                if len(alone) < len(self.encoders):
                    nothing = {n: each._replace(mask=torch.zeros_like(each.mask)) for n, each in given.items()}
                    without = self.architecture(nothing)
                    alone = {name: alone.get(name, without) for name in self.encoders}
            return alone

        dtype = next(self.architecture.parameters()).dtype
        return full_precision_scores(predict, {name: given.values for name, given in tokens.items()}, dtype)

    def head_parameters(self) -> list[nn.Parameter]:
        return list(self.architecture.parameters())
