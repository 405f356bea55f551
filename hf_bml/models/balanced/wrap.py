"""Any model that classifies, made ready for balanced training without a rewrite."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers import PreTrainedConfig

from ...ground.language_model import LanguageModeling
from ...ground.suggestion import did_you_mean
from ...ground.task import CLASSIFICATION, SAMPLE_WEIGHT, TASKS, Task
from ..checkpointing import checkpoint_balanced, why_not_balanced, without_checkpointing
from ..configuration_multimodal import check_modality_name
from ..forward_view import ForwardView
from ..frozen import keep_frozen_statistics
from ..modeling_multimodal import MultimodalClassifierOutput
from ..options import check_size, is_number, is_size
from ..wrappers import PEFT_PREFIX, check_bare, without_adapter
from .checks import CheckedModel, check_disjoint, check_path, keywords
from .outputs import (
    copied,
    feature_field,
    get,
    loss_of,
    replaced,
    spread_rows,
)
from .replay import FurtherCallError

LANGUAGE_TASKS: dict[str, Callable[[int | None], Task]] = {  # from the most labelled tokens of a sample
    "causal_lm": lambda answer_tokens: LanguageModeling(1, answer_tokens),
    "seq2seq_lm": lambda answer_tokens: LanguageModeling(0, answer_tokens),
}


def own_config(model: nn.Module) -> Any:
    """What a user's model calls its config, of any class; None if there is none."""
    return getattr(model, "config", None)


def balance(
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
) -> BalancedModel:
    """Wraps a model, so that [`MultimodalBalancedTrainer`] trains it with modulations such as OPM and OGM.

    The modalities are scored by zero-out (paper Sec. 4.3.7): the rest of the model runs once more for each modality,
    without gradient and in eval mode, on the encoders' outputs of the same forward with those of the others set to
    zero. A modality that OPM drops is zeroed in the same way. What the trainer saves is the model itself.

    A training forward runs the model until each encoder has returned, scores the modalities, and then runs the rest of
    the model once, on what the modulations let pass. Random numbers are drawn in that order: first those of the
    encoders, then those of the rest, as in the model alone; the scores draw none. What runs before the last encoder
    without being part of one (a stem, an embedding that is not named) runs a second time with the rest, and draws
    again; BatchNorm's statistics count once everywhere. With and without modulations, scored or not, the computation
    is the same. Where an encoder is called several times in a forward, the rest of the model runs, and draws, once
    more.

    The scores cost a pass through the rest of the model for each modality. `score_every` and `score_fraction` make
    them in some steps, and of some samples, only; both are for training, an evaluation scores everything:

    - Between two scored steps the scores and ratios of the last one stand: OPM, which follows the ratios of the step
      before, OGM, which follows the step's own, and all other methods go on with them, and nothing is added to what is
      logged of them. Steps are counted from the beginning of the training, also if it is resumed; without any scores
      yet, as after a first step that fp16 has skipped, the next step is scored whatever its number. Methods that read
      each batch's unimodal logits are refused.
    - A fraction takes evenly spaced samples of every micro-batch, the same for the same batch, and the scores are
      scaled up to the whole batch. Accumulated micro-batches and several processes take those of the big batch if the
      fraction of a micro-batch is a whole number of samples. Tensors among the inputs whose first axis is a multiple
      of the batch are cut by samples.

    Args:
        model: whose output holds logits `(batch, num_labels)`. It gets the batch as it comes; `labels` only if its
            forward names that parameter. Its loss is its output's `loss`, which should be a mean over the batch, or
            the first item of a tuple if that is a scalar; without one it is that of the task, which is the one that
            `model.config.problem_type` names, else classification. A PEFT model is saved as PEFT does, the adapter
            alone.
        modalities: per modality the path of its encoder inside the model, as in `model.get_submodule` (of a PEFT
            model: inside the model that it adapts); or several paths of modules that run one after the other, whose
            parameters count together and the last of which yields the feature.
        features: per modality the field of the encoder's output that is its feature, for modulations that scale
            features; default the output itself, or `pooler_output`, or `last_hidden_state`. Of an encoder that returns
            a tuple, such as a recurrent layer, the index of what the model uses: nothing else in it is zeroed.
        logits: field of the model's output, or a function of it. A tensor alone is the logits; of a tuple, the first
            tensor that is not a scalar.
        num_labels: at least 2; default `model.config.num_labels`, of a language model the size of its vocabulary.
        task: `"classification"`; or `"causal_lm"` or `"seq2seq_lm"` of a language model, whose labels `(batch,
            length)` are tokens, -100 where none is asked for: see
            [`LanguageModeling`](../../ground/language_model.py). Its own loss counts; with labels, the output has the
            logits that predict them, `(batch, targets, vocabulary)`.
        answer_tokens: of a language model, how many labelled tokens a sample has at most, so that the logits of the
            prompt, M + 1 times the whole vocabulary, are not kept; default: any number.
        placeholders: per modality whose features take the place of tokens in `input_ids`, the id of these tokens, such
            as `{"image": model.config.image_token_id}`. Needed where samples differ in how many features they have
            (images of several sizes, none, or more than one); a sample without such tokens lacks the modality.
        score_every: optimizer steps from one scored step to the next, at least 1 (paper: 1).
        score_fraction: of a batch's samples that are scored, in (0, 1] (paper: 1). Not with `placeholders`.

    In a model that reads images and text (a VLM), the encoder of `image` is its vision tower and, after it, the
    projector: `["model.vision_tower", "model.multi_modal_projector"]`; that of `text` the language model's table of
    embeddings, `"model.language_model.embed_tokens"`; all that follows belongs to no modality. Without `image`, zeros
    stand in the places of image tokens; without `text`, in all others: the question, and the answer's earlier tokens,
    too. See recipes/vlm_lora.

    Raises:
        ValueError: an option is out of range, a path does not exist, one encoder is or lies inside another,
            `num_labels` is not known or below 2, the task is not known, or a language model's forward takes no
            `labels`, the model is compiled, distributed or TorchScript, or its forward takes its inputs under names
            that cannot be passed on. In the first forward: an encoder that is not called, whose output depends on
            another modality's, or without which the prediction is not a number or, for any weights outside the
            encoders, does not change: then a score would mean nothing. In the first forward of several samples: an
            encoder whose output does not have the batch in front, or with a `score_fraction` a model that predicts
            something else of a part of a batch.

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
    return BalancedModel(
        model,
        modalities,
        features,
        logits,
        num_labels,
        task=task,
        answer_tokens=answer_tokens,
        placeholders=placeholders,
        score_every=score_every,
        score_fraction=score_fraction,
    )


class BalancedModel(CheckedModel):
    """A model with the interface that balancing needs; see [`balance`].

    Attributes:
        model: the wrapped model.
        encoders: per modality its modules, a plain dict.
        num_labels: classes, or tokens of a language model's vocabulary.
        task: what its predictions are worth.
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

    @torch.compiler.disable  # hooks and replaced forwards are not what a compiler can trace
    def forward(
        self,
        labels: Tensor | None = None,
        modality_mask: Tensor | None = None,
        modulation: Any = None,
        num_items_in_batch: Tensor | int | None = None,
        score_modalities: bool = True,
        sample_weight: Tensor | None = None,
        **inputs: Any,
    ) -> MultimodalClassifierOutput:
        """
        Args:
            labels: class indices `(batch,)`, or what the task of the model's `config.problem_type` has; of a language
                model tokens `(batch, length)`.
            modality_mask: bool `(batch, modalities)`, False where a sample lacks a modality: its encoder's output is
                zero and it counts in no score. In eval mode the output has it as `keep_mask` only.
            modulation: as for [`MultimodalForClassification`].
            num_items_in_batch: labelled tokens of the whole batch, over all micro-batches and processes, by which the
                loss of a language model is divided; None: those of this one.
            score_modalities: whether to predict from each modality alone; else `unimodal_logits` is empty.
            sample_weight: as for [`MultimodalForClassification`]; for a model that takes it, or no labels.
            inputs: keywords of the wrapped model.
        """
        if labels is not None and self.takes_labels:
            inputs = {**inputs, "labels": labels}
        self._counts = {name: (inputs["input_ids"] == token).sum(1) for name, token in self.placeholders.items()}
        if sample_weight is not None and self.takes_weights:
            inputs = {**inputs, SAMPLE_WEIGHT: sample_weight}
        if not self._structure_is_checked:
            self._check_structure(inputs)
        mask = self._presence(modality_mask)
        options = mask, modulation, num_items_in_batch, score_modalities, sample_weight
        if self._is_called_once:
            try:
                return self._forward(labels, *options, inputs)
            except FurtherCallError:  # as in a loop over frames, of which the first batch had one
                self._is_called_once = False  # from here on; this batch begins again, its modulations too
        return self._forward(labels, *options, inputs)

    def _forward(
        self,
        labels: Tensor | None,
        mask: Tensor | None,
        modulation: Any,
        num_items_in_batch: Tensor | int | None,
        score_modalities: bool,
        sample_weight: Tensor | None,
        inputs: Mapping[str, Any],
    ) -> MultimodalClassifierOutput:
        """The forward; `inputs` may hold the labels."""
        # In training always, so that a run without modulations draws and counts what one with them does.
        runs_again = self.training or mask is not None or modulation is not None
        result = None
        encoders_only = runs_again and self._is_called_once
        with self._recorded(encoders_only) as (outputs, earlier), self._statistics_kept():
            result = self._run(inputs)
        if absent := [name for name, calls in outputs.items() if not calls]:
            raise ValueError(
                f"No sample of this batch has {absent[0]!r}: its encoder was not called. Let every batch hold one, "
                "such as a blank input that modality_mask marks as absent."
            )
        if self.training and torch.is_grad_enabled() and not self._gradient_is_checked:
            self._check_gradient(outputs)
        if runs_again:
            result = None  # and the graph behind the encoders is freed
        unimodal_logits, rows = {}, None
        if score_modalities:
            samples = 0 if labels is None else len(labels)
            if samples and self.training:
                rows = spread_rows(samples, self.score_fraction, labels.device)
            if rows is not None and not self._fraction_is_checked:
                self._check_fraction(outputs, earlier, inputs, rows, samples)
            unimodal_logits = self._unimodal_logits(outputs, earlier, inputs, mask, rows, samples)
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
        if not self._rows_are_checked and len(joint) > 1:
            self._check_rows(outputs, earlier, inputs)
        loss = loss_of(result) if self.takes_labels else None
        if loss is None and labels is not None:
            loss = self.task.loss(joint, labels, None, sample_weight)
        elif loss is not None and sample_weight is not None and not self.takes_weights:
            raise ValueError(
                f"The data has a column {SAMPLE_WEIGHT}, but the loss of {type(self.model).__name__} is its own and "
                "does not see it. Let its forward take sample_weight, or no labels, or take the column out."
            )
        if loss is not None and num_items_in_batch is not None:
            loss = loss * (self.task.tokens(labels).to(loss.dtype) / num_items_in_batch)
        if keep_mask is None:
            keep_mask = torch.ones(len(joint), len(self.paths), dtype=torch.bool, device=joint.device)
        return MultimodalClassifierOutput(
            loss=loss,
            logits=joint,
            unimodal_logits=unimodal_logits,
            keep_mask=keep_mask,
            modality_mask=mask if self.training else None,  # the evaluation takes all there is for a prediction
            losses=({} if loss is None else {"joint": loss}) | further or None if self.training else None,
            scored_rows=rows,
        )

    def _presence(self, modality_mask: Tensor | None) -> Tensor | None:
        """Which modalities each sample has, bool `(batch, modalities)`; None if nothing says so."""
        mask = None if modality_mask is None else modality_mask.bool()
        if not self._counts:
            return mask
        some = next(iter(self._counts.values()))
        holds = [
            self._counts[name] > 0 if name in self._counts else torch.ones_like(some).bool() for name in self.paths
        ]
        return torch.stack(holds, 1) if mask is None else torch.stack(holds, 1) & mask

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
            with self._replayed(self._kept(changed, keep), earlier), self._statistics_kept():
                if not detached:
                    return self._logits(self._run(inputs))
                inside = {id(p) for encoder in self.encoders.values() for p in encoder.parameters()}
                constants = {n: p.detach() for n, p in self.model.named_parameters() if id(p) not in inside}
                self._expect(inputs)
                # Computed again, the layers would have their parameters, not the constants.
                with without_checkpointing(self.model):
                    return self._logits(functional_call(self.model, constants, kwargs=copied(dict(inputs))))

        given = {name: inputs[name] for name in self.paths if name in inputs}
        samples = len(next(iter(self._counts.values()))) if self._counts else None
        features = self._features(outputs)
        return ForwardView(unimodal_logits, mask, features, given or dict(inputs), predict, samples=samples)

    def _features(self, outputs: Mapping[str, list[Any]]) -> dict[str, Tensor]:
        """Each modality's feature, of the first call of its encoder."""
        return {
            name: get(calls[0], feature_field(calls[0], self.features.get(name))) for name, calls in outputs.items()
        }

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
