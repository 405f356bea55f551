"""All classification metrics at once, for `Trainer(compute_metrics=...)`."""

from __future__ import annotations

from scipy.special import softmax
from transformers import EvalPrediction

from .accuracy import accuracy
from .f1 import f1_score
from .mean_average_precision import mean_average_precision
from .unimodal_accuracy import accuracies_alone
from .validation import labelled, split_predictions, validated_scores


def classification_metrics(eval_prediction: EvalPrediction) -> dict[str, float]:
    """Joint and uni-modal metrics of a multimodal classifier.

    Args:
        eval_prediction: `label_ids` of shape (n,), -100 where a sample has no label, or probabilities of the classes
            (n, classes), of which the largest counts; and `predictions`: logits of shape (n, classes), or a tuple of
            these, `{modality: (n, classes)}` and optionally a bool keep mask (n, modalities), as the evaluation loop
            returns them for a model with `unimodal_logits` and `keep_mask`.

    Returns:
        flat floats: `accuracy`, `mean_average_precision` (of float64 softmax probabilities, over the classes that
        occur), `mean_average_precision_classes` (how many occur), `f1_weighted`, `f1_binary` (two classes only),
        `accuracy_<modality>` over the samples that have the modality (absent if none has it).

    Raises:
        ValueError: empty input, NaN in logits, differing lengths, a label out of range, or another form of
            `predictions`.
    """
    predictions, unimodal_logits, keep_mask = split_predictions(eval_prediction.predictions)
    labels, logits, unimodal_logits, keep_mask = labelled(
        eval_prediction.label_ids, predictions, unimodal_logits, keep_mask
    )
    logits, labels = validated_scores(logits, labels)
    map_value, num_present = mean_average_precision(softmax(logits, axis=1), labels)
    metrics = {
        "accuracy": accuracy(logits, labels),
        "mean_average_precision": map_value,
        "mean_average_precision_classes": float(num_present),
        "f1_weighted": f1_score(logits, labels, "weighted"),
    }
    if logits.shape[1] == 2:
        metrics["f1_binary"] = f1_score(logits, labels, "binary")
    alone = accuracies_alone(unimodal_logits, labels, keep_mask)
    return {**metrics, **{f"accuracy_{name}": value for name, value in alone.items()}}
