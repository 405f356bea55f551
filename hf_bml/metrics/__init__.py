"""Metrics: numpy functions, and thin `evaluate.Metric` classes that work offline."""

from __future__ import annotations

from ..ground.seams import check_seams
from .accuracy import Accuracy, accuracy
from .classification import classification_metrics
from .f1 import F1, f1_score
from .joint_predictions import JointPredictions
from .language_model import answer_metrics, language_model_metrics, token_predictions
from .mean_average_precision import MeanAveragePrecision, mean_average_precision
from .multi_label import multi_label_metrics, subset_accuracy
from .question_answering import accuracy_by_type, question_answering_metrics
from .regression import correlation, mean_absolute_error, regression_metrics, sentiment_metrics
from .segment_accuracy import SegmentAccuracy, event_accuracy, segment_accuracy, segment_classification_metrics
from .unimodal_accuracy import UnimodalAccuracy, unimodal_accuracy

check_seams("metrics")

__all__ = [
    "F1",
    "Accuracy",
    "JointPredictions",
    "MeanAveragePrecision",
    "SegmentAccuracy",
    "UnimodalAccuracy",
    "accuracy",
    "accuracy_by_type",
    "answer_metrics",
    "classification_metrics",
    "correlation",
    "event_accuracy",
    "f1_score",
    "language_model_metrics",
    "mean_absolute_error",
    "mean_average_precision",
    "multi_label_metrics",
    "question_answering_metrics",
    "regression_metrics",
    "segment_accuracy",
    "segment_classification_metrics",
    "sentiment_metrics",
    "subset_accuracy",
    "token_predictions",
    "unimodal_accuracy",
]
