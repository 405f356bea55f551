from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import f1_score
from transformers import EvalPrediction

from hf_bml.metrics import correlation, regression_metrics, sentiment_metrics

GENERATOR = np.random.default_rng(0)
LABELS = GENERATOR.uniform(-3, 3, 40).round(1)
VALUES = LABELS + GENERATOR.normal(0, 1.5, 40)


def test_joint_and_single_modalities():
    keep = np.ones((40, 2), bool)
    keep[:10, 1] = False
    alone = {"audio": VALUES[:, None], "visual": -VALUES[:, None]}
    found = regression_metrics(EvalPrediction((VALUES[:, None], alone, keep), LABELS))
    assert found["mae"] == found["mae_audio"] == pytest.approx(np.abs(VALUES - LABELS).mean())
    assert found["rmse"] == pytest.approx(((VALUES - LABELS) ** 2).mean() ** 0.5)
    assert found["correlation"] == pytest.approx(pearsonr(VALUES, LABELS).statistic)
    assert found["correlation_visual"] == pytest.approx(-pearsonr(VALUES[10:], LABELS[10:]).statistic)


def test_correlation_of_constants_and_of_several_numbers():
    assert correlation(np.ones(4), np.arange(4)) == 0
    both = np.stack([np.arange(4), np.arange(4)[::-1]], 1)
    assert correlation(both, np.stack([np.arange(4), np.arange(4)], 1)) == pytest.approx(0)


def test_sentiment_as_users_report_it():
    labels = np.where(np.abs(LABELS) < 0.6, 0.0, LABELS)
    found = sentiment_metrics(VALUES, labels)
    some = labels != 0
    assert found["acc_2"] == pytest.approx(((VALUES > 0) == (labels > 0))[some].mean())
    assert found["f1_2"] == pytest.approx(f1_score(labels[some] > 0, VALUES[some] > 0, average="weighted"))
    assert found["acc_2_nonnegative"] == pytest.approx(((VALUES >= 0) == (labels >= 0)).mean())
    seven = VALUES.clip(-3, 3).round() == labels.clip(-3, 3).round()
    assert found["acc_7"] == pytest.approx(seven.mean())
    assert "acc_2" not in sentiment_metrics(VALUES, np.zeros(40))


@pytest.mark.parametrize(("values", "message"), [(VALUES[:3], "as many"), (VALUES * np.nan, "finite predictions")])
def test_what_is_no_prediction_of_numbers(values, message):
    with pytest.raises(ValueError, match=message):
        correlation(values, LABELS)
