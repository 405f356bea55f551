"""`balance()`: any model that classifies, made ready for balanced training without a rewrite."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from .wrap import BalancedModel


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
