"""Configuration of a model that answers questions about sound and picture."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ..ground.suggestion import check_name
from .configuration_multimodal import ModalitiesConfig, option, options_by_name
from .options import chosen_options
from .question_answering import QUESTION_ANSWERING_ARCHITECTURES


class QuestionAnsweringConfig(ModalitiesConfig):
    r"""Configuration of [`MultimodalForQuestionAnswering`].

    Usage: `task: question_answering, architecture: avsd,
        modalities: {text: {type: lstm, vocab_size: 93}, audio: {type: sequence, input_size: 128, num_layers: 0}}`

    Args:
        modalities (`dict[str, dict]`): encoder config per modality, the question's among them. Their encoders give
            sequences: `lstm` or `transformers` for the question; `sequence` for features `(time, dim)` or
            `(frames, positions, dim)`, or any other.
        modality_order (`list[str]`, *optional*): as of [`MultimodalConfig`].
        question (`str`, *optional*): the modality that asks; default the first one that takes token ids.
        architecture (`str`): what joins them, `"avsd"` or `"panoavqa"`.
        architecture_options (`dict`, *optional*): options of the architecture; see its options class.
        auxiliary_loss_weight (`float`, *optional*): gives every modality a classifier of its own on the mean of its
            tokens, and adds this times their summed cross-entropies to the training loss. 0 keeps them out of the
            loss, for modulations that weigh them. Default: no such heads.
        num_labels, id2label, label2id: of the answers.

    Example:

    ```python
    >>> from hf_bml import QuestionAnsweringConfig
    >>> config = QuestionAnsweringConfig(
    ...     modalities={
    ...         "text": {"type": "lstm", "vocab_size": 93},
    ...         "audio": {"type": "sequence", "input_size": 128, "num_layers": 0},
    ...         "visual": {"type": "sequence", "input_size": 512, "num_layers": 0},
    ...     },
    ...     architecture="avsd",
    ...     num_labels=42,
    ... )
    >>> config.architecture_options["hidden_size"]
    256

    ```
    """

    model_type = "multimodal_question_answering"

    question: str | None = option(None, "The modality that asks; default the first one that takes token ids.")
    architecture: str | None = option(
        None, f"What joins the modalities: {', '.join(QUESTION_ANSWERING_ARCHITECTURES)}; default the first."
    )
    architecture_options: dict[str, Any] | None = option(
        None, f"Options of the architecture ({options_by_name(QUESTION_ANSWERING_ARCHITECTURES)})."
    )

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if "question_type" in self.modalities:
            raise ValueError(
                "'question_type' cannot be the name of a modality: the model's forward uses this keyword."
            )
        if self.question is not None:
            check_name("question", self.question, self.modalities)
        self.architecture = self.architecture or "avsd"
        check_name("architecture", self.architecture, QUESTION_ANSWERING_ARCHITECTURES)
        self.architecture_options = asdict(self.architecture_config)

    @property
    def architecture_config(self) -> Any:
        """The options of the architecture as its dataclass."""
        owners = QUESTION_ANSWERING_ARCHITECTURES
        return chosen_options("architecture", self.architecture, owners, self.architecture_options)
