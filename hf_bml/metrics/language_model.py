"""What a language model that reads several modalities answers, token by token, and from each modality alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor
from transformers import EvalPrediction

from ..ground.language_model import LanguageModeling
from ..ground.task import UNLABELLED
from .validation import split_predictions


def token_predictions(predictions: Any, labels: Tensor | None, task: LanguageModeling) -> Any:
    """What the evaluation of a language model keeps of a batch, in the place of logits over the whole vocabulary.

    Args:
        predictions: logits `(batch, targets, vocabulary)`, or a tuple of these, `{modality: logits}`, and more.
        labels: tokens `(batch, length)`; None if there are none.
        task: the model's.

    Returns:
        the most probable tokens, int64 `(batch, length)`, each where its label is and -100 elsewhere; of a tuple those
        of every modality, too, in the same form, and at its end the log-probabilities of the labels, `{name: (batch,
        length)}`, where `joint` is that of all modalities. Without labels only tokens, where the logits are.
    """
    logits, *others = predictions if isinstance(predictions, tuple) else (predictions,)

    def tokens(values: Tensor) -> Tensor:
        found = values.argmax(-1)
        return found if labels is None else task.by_place(found, labels)

    if not others:
        return tokens(logits)
    unimodal, *others = others
    kept = tokens(logits), {name: tokens(own) for name, own in unimodal.items()}, *others
    if labels is None:
        return kept
    known = {"joint": logits, **unimodal}
    return *kept, {n: task.by_place(task.log_probabilities(own, labels), labels, 0.0) for n, own in known.items()}


def language_model_metrics(eval_prediction: EvalPrediction) -> dict[str, float]:
    """Joint and uni-modal metrics of a language model in `balance()`, for `Trainer(compute_metrics=...)`.

    Args:
        eval_prediction: `label_ids (n, length)`, -100 where no token is asked for, and `predictions` as
            `token_predictions` makes them, which the trainer does by itself.

    Returns:
        flat floats: `token_accuracy`, the share of labelled tokens that are the most probable ones, given those before
        them; `answer_accuracy`, of samples whose labelled tokens all are; and, over the samples that have the
        modality, `token_accuracy_<modality>`, `answer_accuracy_<modality>` and `loss_<modality>`, the mean negative
        log-probability of a labelled token, in nats.

    Raises:
        ValueError: no labelled token, or another form of `predictions`.
    """
    tokens, alone, keep_mask, logs = split_predictions(eval_prediction.predictions, ["log_probabilities"])
    labels = np.asarray(eval_prediction.label_ids)
    metrics = answer_metrics(tokens, labels)
    for column, (name, own) in enumerate(alone.items()):
        present = np.ones(len(labels), bool) if keep_mask is None else keep_mask[:, column].astype(bool)
        labelled = (labels != UNLABELLED) & present[:, None]
        if not labelled.any():
            continue
        found = answer_metrics(np.asarray(own)[present], labels[present])
        metrics |= {f"{metric}_{name}": value for metric, value in found.items()}
        metrics[f"loss_{name}"] = float(-np.asarray(logs[name], np.float64)[labelled].mean())
    return metrics


def answer_metrics(tokens: ArrayLike, labels: ArrayLike) -> dict[str, float]:
    """`token_accuracy` and `answer_accuracy` of tokens `(n, length)`.

    Raises:
        ValueError: other shapes than the labels', or no labelled token.

    Example:
        >>> answer_metrics([[3, 4, 5], [3, 4, 5]], [[-100, 4, 5], [-100, 4, 6]])
        {'token_accuracy': 0.75, 'answer_accuracy': 0.5}
    """
    tokens, labels = np.asarray(tokens), np.asarray(labels)
    labelled = labels != UNLABELLED
    if tokens.shape != labels.shape or not labelled.any():
        raise ValueError(
            f"Expected tokens (n, length) for labels of this shape, some of them not {UNLABELLED}, found shapes "
            f"{tokens.shape} and {labels.shape} with {int(labelled.sum())} labelled tokens. Leave "
            "preprocess_logits_for_metrics out, and check that max_length does not cut the answers off."
        )
    right = (tokens == labels) & labelled
    answered = labelled.any(1)
    return {
        "token_accuracy": float(right.sum() / labelled.sum()),
        "answer_accuracy": float((right == labelled).all(1)[answered].mean()),
    }
