from __future__ import annotations

import numpy as np
import pytest
from transformers import EvalPrediction

from hf_bml.metrics import accuracy_by_type, question_answering_metrics
from hf_bml.metrics.question_answering import type_metric_names

LABELS = np.array([0, 1, 2, 2, 0, 1])
PREDICTED = np.array([0, 1, 2, 0, 1, 1])  # wrong in the fourth and the fifth
LOGITS = np.eye(3)[PREDICTED]
TYPES = np.array([0, 0, 0, 2, 2, 2])
NAMES = ["Audio Counting", "Visual Location", "Audio-Visual Temporal"]


def test_by_hand():
    by_type = accuracy_by_type(LOGITS, LABELS, TYPES)
    assert by_type == {0: 1.0, 2: pytest.approx(1 / 3)} and list(by_type) == [0, 2]
    assert accuracy_by_type(PREDICTED, LABELS, TYPES[::-1]) == {0: pytest.approx(1 / 3), 2: 1.0}


def test_overall_by_type_and_of_each_modality():
    unimodal = {"text": np.eye(3)[LABELS], "audio": LOGITS}
    keep = np.ones((6, 2), dtype=bool)
    keep[:3, 1] = False  # of the other three, audio alone gets one right
    result = question_answering_metrics(EvalPrediction((LOGITS, unimodal, keep, TYPES), LABELS), NAMES)
    assert result == pytest.approx(
        {
            "accuracy": 4 / 6,
            "accuracy_on_audio_counting": 1.0,
            "accuracy_on_audio_visual_temporal": 1 / 3,
            "accuracy_text": 1.0,
            "accuracy_audio": 1 / 3,
        }
    )
    keep[:, 1] = False
    without = question_answering_metrics(EvalPrediction((LOGITS, unimodal, keep, TYPES), LABELS), NAMES)
    assert without == {name: value for name, value in result.items() if name != "accuracy_audio"}


def test_the_types_weighed_by_their_questions_give_the_whole():
    generator = np.random.default_rng(0)
    logits, labels, types = (
        generator.normal(size=(90, 5)),
        generator.integers(5, size=90),
        generator.integers(4, size=90),
    )
    result = question_answering_metrics(EvalPrediction((logits, {}, None, types), labels))
    parts = [result[f"accuracy_on_{kind}"] * (types == kind).mean() for kind in range(4)]
    assert sum(parts) == pytest.approx(result["accuracy"])


@pytest.mark.parametrize("predictions", [LOGITS, (LOGITS,), (LOGITS, {}), (LOGITS, None, None, None)])
def test_without_types(predictions):
    assert question_answering_metrics(EvalPrediction(predictions, LABELS), NAMES) == {"accuracy": pytest.approx(4 / 6)}


def test_without_names_types_are_numbered():
    result = question_answering_metrics(EvalPrediction((LOGITS, {}, None, TYPES), LABELS))
    assert set(result) == {"accuracy", "accuracy_on_0", "accuracy_on_2"}


def test_names():
    assert type_metric_names(NAMES) == [
        "accuracy_on_audio_counting",
        "accuracy_on_visual_location",
        "accuracy_on_audio_visual_temporal",
    ]


@pytest.mark.parametrize(
    ("logits", "labels", "types", "message"),
    [
        (LOGITS, LABELS, TYPES[:5], "found 5 types and 6 labels"),
        (LOGITS, LABELS, TYPES - 1, "-1"),
        (LOGITS, LABELS, TYPES + 0.5, "integer"),
        (LOGITS * np.nan, LABELS, TYPES, "NaN"),
        (LOGITS, LABELS + 1, TYPES, r"\[0, 3\), found 3"),
        (LOGITS[:0], LABELS[:0], TYPES[:0], "n >= 1"),
    ],
)
def test_bad_input(logits, labels, types, message):
    with pytest.raises(ValueError, match=message):
        accuracy_by_type(logits, labels, types)


def test_a_type_without_a_name():
    with pytest.raises(ValueError, match=r"question types in \[0, 2\), found 2"):
        question_answering_metrics(EvalPrediction((LOGITS, {}, None, TYPES), LABELS), NAMES[:2])


def test_a_bad_modality_is_named():
    with pytest.raises(ValueError, match="modality 'audio'"):
        question_answering_metrics(EvalPrediction((LOGITS, {"audio": LOGITS * np.nan}, None, TYPES), LABELS))


@pytest.mark.parametrize("predictions", [(LOGITS, LOGITS), (LOGITS, {}, None, TYPES, LOGITS)])
def test_another_form_of_predictions(predictions):
    with pytest.raises(ValueError, match="keys_to_ignore_at_inference"):
        question_answering_metrics(EvalPrediction(predictions, LABELS))
