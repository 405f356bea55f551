"""A user's model with the interface that balancing needs: what it may be, its options, what is saved of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn
from transformers import PreTrainedConfig

from ...ground.language_model import LanguageModeling
from ...ground.suggestion import did_you_mean
from ...ground.task import CLASSIFICATION, SAMPLE_WEIGHT, TASKS, Task
from ..checkpointing import checkpoint_balanced, why_not_balanced
from ..configuration_multimodal import check_modality_name
from ..frozen import keep_frozen_statistics
from ..options import check_size, is_number, is_size
from ..wrappers import PEFT_PREFIX, check_bare, without_adapter
from .checks import check_disjoint, check_path, keywords
from .forward import BalancedForward

LANGUAGE_TASKS: dict[str, Callable[[int | None], Task]] = {  # from the most labelled tokens of a sample
    "causal_lm": lambda answer_tokens: LanguageModeling(1, answer_tokens),
    "seq2seq_lm": lambda answer_tokens: LanguageModeling(0, answer_tokens),
}


def own_config(model: nn.Module) -> Any:
    """What a user's model calls its config, of any class; None if there is none."""
    return getattr(model, "config", None)


class BalancedModel(BalancedForward):
    """A model with the interface that balancing needs; made by [`balance`].

    Attributes:
        model: the wrapped model.
        encoders: per modality its modules, a plain dict.
        num_labels: classes, or tokens of a language model's vocabulary.
        input_columns: keywords that the wrapped model's forward names, but labels; empty if it names none.
        required_columns: those of them without a default.
        can_be_compiled: false; under `torch.compile` it runs as without.
    """

    accepts_loss_kwargs = False  # but by a language model, whose loss is one over the tokens of the whole batch
    loss_type: str | None = None  # by which the Trainer knows that labels are shifted
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
        task: str = "classification",
        answer_tokens: int | None = None,
        placeholders: Mapping[str, int] | None = None,
        score_every: int = 1,
        score_fraction: float = 1.0,
    ):
        super().__init__()
        check_size("score_every", score_every)
        if not is_number(score_fraction) or not 0 < score_fraction <= 1:
            raise ValueError(f"score_fraction must be a number in (0, 1], found {score_fraction!r}.")
        self.score_every, self.score_fraction = score_every, score_fraction
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
        for argument, named in (("features", features or {}), ("placeholders", placeholders or {})):
            if unknown := [name for name in named if name not in self.paths]:
                raise ValueError(f"{argument} names {unknown}, but the modalities are {list(self.paths)}.")
        if placeholders and score_fraction < 1:
            raise ValueError(
                f"score_fraction={score_fraction} takes some samples' rows of every input, but with placeholders a "
                "sample may have any number of rows. Leave it out, or use score_every."
            )
        self.features, self.placeholders = dict(features or {}), dict(placeholders or {})
        self.logits = logits
        tasks = ["classification", *LANGUAGE_TASKS]
        if task not in tasks:
            raise ValueError(f"Unknown task {task!r}.{did_you_mean(task, tasks)} There are {tasks}.")
        if answer_tokens is not None and (task not in LANGUAGE_TASKS or not is_size(answer_tokens, least=1)):
            raise ValueError(
                f"answer_tokens must be an integer of at least 1, of a language model, found {answer_tokens!r} with "
                f"task={task!r}. Leave it out, or give the most labelled tokens of a sample."
            )
        self._task_name, self._answer_tokens = task, answer_tokens
        config = own_config(inner)
        if task in LANGUAGE_TASKS:
            self.task = LANGUAGE_TASKS[task](answer_tokens)
        else:
            self.task = TASKS.get(None if self.config is None else self.config.problem_type, Task)()
        if self.task.counts_tokens:
            self.accepts_loss_kwargs = True
            self.loss_type = "ForCausalLM" if task == "causal_lm" else None
            if num_labels is None and isinstance(config, PreTrainedConfig):
                num_labels = config.get_text_config().vocab_size
        self.num_labels = getattr(config, "num_labels", None) if num_labels is None else num_labels  # of any class
        if self.num_labels is None:
            raise ValueError(f"{type(model).__name__} has no config.num_labels: pass num_labels to balance().")
        is_single = self.task.problem_type == CLASSIFICATION.problem_type
        if not is_size(self.num_labels, least=2 if is_single else 1):
            raise ValueError(
                f"num_labels must be an integer of at least 2, found {self.num_labels!r}: a modality's score is the "
                "probability of the true class, and that of a single class is always 1. Let a model with one logit x "
                "for yes or no predict the two logits 0 and x: "
                "logits=lambda output: nn.functional.pad(output.logits, (1, 0))."
            )
        named = keywords(inner)
        self.takes_labels, self.takes_weights = "labels" in named, SAMPLE_WEIGHT in named
        if self.task.counts_tokens and not self.takes_labels:
            raise ValueError(
                f"task={task!r} needs a model with a loss of its own, but the forward of {type(inner).__name__} takes "
                "no `labels`. Wrap the class with the language model's head, such as LlavaForConditionalGeneration."
            )
        if self.placeholders and "input_ids" not in named:
            raise ValueError(
                f"placeholders are tokens of `input_ids`, which the forward of {type(inner).__name__} does not take. "
                "Leave them out."
            )
        self.input_columns = [name for name in named if name not in ("labels", SAMPLE_WEIGHT)]
        self.required_columns = [name for name in self.input_columns if named[name].default is inspect.Parameter.empty]

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
            "task": self._task_name,
            "answer_tokens": self._answer_tokens,
            "placeholders": dict(self.placeholders),
        }

    @property
    def config(self) -> PreTrainedConfig | None:
        """The wrapped model's config; None if it has none, or one of its own kind, which the Trainer cannot read."""
        config = own_config(without_adapter(self.model))
        return config if isinstance(config, PreTrainedConfig) else None

    def save_pretrained(self, *args: Any, **kwargs: Any) -> Any:
        """Saves the wrapped model, which needs no balancing to be used."""
        return self.model.save_pretrained(*args, **kwargs)

    def why_no_checkpointing(self) -> str | None:
        return why_not_balanced(without_adapter(self.model), self.paths)

    def activation_checkpointing_enable(
        self, activation_checkpointing_kwargs: dict[str, Any] | None = None, **options: Any
    ) -> None:
        """Turns activation checkpointing on in the transformers models inside, and in the wrapped one if it is one.

        Args:
            activation_checkpointing_kwargs: of `torch.utils.checkpoint.checkpoint`.
            options: as of transformers' method of this name, such as `every_n_layers`.

        Raises:
            ValueError: there is none, or an encoder is in a layer that would be computed again.
        """
        options = {"gradient_checkpointing_kwargs": activation_checkpointing_kwargs, **options}
        checkpoint_balanced(without_adapter(self.model), self.paths, options)

    def gradient_checkpointing_enable(
        self, gradient_checkpointing_kwargs: dict[str, Any] | None = None, **options: Any
    ) -> None:
        """The older name of `activation_checkpointing_enable`."""
        self.activation_checkpointing_enable(gradient_checkpointing_kwargs, **options)

    def train(self, mode: bool = True) -> BalancedModel:
        super().train(mode)
        if mode:
            keep_frozen_statistics(self.model, self.encoders.values())
        return self
