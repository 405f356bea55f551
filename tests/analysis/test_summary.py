from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from hf_bml.analysis.summary import markdown_table, paired_difference, run_table


def test_paired_difference_equals_scipys_interval():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=8), rng.normal(size=8)
    result = paired_difference(first, second)
    interval = stats.ttest_rel(first, second).confidence_interval(0.95)
    assert result.mean == pytest.approx(float((first - second).mean()))
    assert (result.low, result.high) == pytest.approx((interval.low, interval.high))


def test_paired_difference_of_hand_computed_values():
    """Differences 1, 2, 3: mean 2, standard error 1 / sqrt 3, t(2) = 4.302653."""
    result = paired_difference([2, 4, 6], [1, 2, 3])
    assert result.low == pytest.approx(2 - 4.302653 / math.sqrt(3), abs=1e-5)
    assert result.high == pytest.approx(2 + 4.302653 / math.sqrt(3), abs=1e-5)


def test_one_pair_has_no_interval():
    result = paired_difference([1.0], [0.5])
    assert result.mean == 0.5 and math.isnan(result.low)


@pytest.mark.parametrize("baseline", [[0.2, 0.3], [0.7, 0.1, 0.4]])
def test_pairs_that_differ_alike_have_no_interval(baseline):
    """0.25 each, up to rounding."""
    result = paired_difference([value + 0.25 for value in baseline], baseline)
    assert result.mean == pytest.approx(0.25) and math.isnan(result.low) and math.isnan(result.high)
    assert math.isnan(paired_difference([0.0, 0.0], [0.0, 0.0]).low)
    assert not math.isnan(paired_difference([1e-3, 1e-3], [0.0, 1e-6]).low)


@pytest.mark.parametrize(("values", "baseline"), [([], []), ([1], [1, 2])])
def test_unpaired_values(values, baseline):
    with pytest.raises(ValueError, match="equally long"):
        paired_difference(values, baseline)


def test_markdown_table():
    assert markdown_table(("a", "bb"), [("1", "2"), ("333", "4")]) == (
        "| a   | bb |\n|-----|----|\n| 1   | 2  |\n| 333 | 4  |"
    )


def test_run_table_shows_metrics_and_ratios():
    table = run_table({"accuracy": 0.51234, "mean_average_precision_classes": 10.0}, {"audio": 1.5})
    assert "| 0.5123 |" in table and "| 10     |" in table and "final discrepancy ratio audio" in table
