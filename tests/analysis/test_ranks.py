from __future__ import annotations

import math

import numpy as np
import pytest

from hf_bml.analysis import ranks
from hf_bml.analysis.ranks import rank_methods, ranks_text
from hf_bml.analysis.row import Row

# Demšar (2006), table 6: C4.5, with m, with cf and with both, on 14 sets; of two equally printed values on the set
# `voting`, whose ranks are 2 and 3 there, the second is lowered.
DEMSAR = np.array(
    [
        (0.763, 0.768, 0.771, 0.798), (0.599, 0.591, 0.590, 0.569), (0.954, 0.971, 0.968, 0.967),
        (0.628, 0.661, 0.654, 0.657), (0.882, 0.888, 0.886, 0.898), (0.936, 0.931, 0.916, 0.931),
        (0.661, 0.668, 0.609, 0.685), (0.583, 0.583, 0.563, 0.625), (0.775, 0.838, 0.866, 0.875),
        (1.000, 1.000, 1.000, 1.000), (0.940, 0.962, 0.965, 0.962), (0.619, 0.666, 0.614, 0.669),
        (0.972, 0.981, 0.975, 0.9749), (0.957, 0.978, 0.946, 0.970),
    ]
)  # fmt: skip


def rows(**values):
    """Rows of each method, the values those of the sets `s0`, `s1`, ...; None where it lacks one."""
    return [
        Row(method, methods=method, dataset=f"s{place}", source="r", runs=[{"seed": 0, "accuracy": value}])
        for method, own in values.items()
        for place, value in enumerate(own)
        if value is not None
    ]


def test_demsars_example():
    assert ranks.mean_ranks(DEMSAR).round(3).tolist() == [3.143, 2.0, 2.893, 1.964]
    statistic, p = ranks.friedman(DEMSAR)
    ties = 1 - (3 * (2**3 - 2) + (4**3 - 4)) / (14 * (4**3 - 4))  # his 9.28 is without this correction
    assert statistic == pytest.approx(9.28 / ties, abs=0.01) and 0.01 < p < 0.02
    assert ranks.critical_difference(4, 14) == pytest.approx(2.569 * math.sqrt(4 * 5 / (6 * 14)), abs=1e-3)


@pytest.mark.parametrize(("methods", "quantile"), [(2, 1.960), (3, 2.343), (5, 2.728), (10, 3.164)])
def test_nemenyis_quantiles_are_those_of_demsars_table_5(methods, quantile):
    assert ranks.critical_difference(methods, 6) == pytest.approx(
        quantile * math.sqrt(methods * (methods + 1) / 36), abs=1e-3
    )


def test_ties_share_their_rank_and_less_may_be_better():
    values = np.array([[0.5, 0.5, 0.5], [0.9, 0.1, 0.5]])
    assert ranks.mean_ranks(values).tolist() == [1.5, 2.5, 2.0]
    assert ranks.mean_ranks(values, lower_is_better=True).tolist() == [2.5, 1.5, 2.0]


def test_friedman_by_hand():
    """Three sets that all rank alike: 12 * 3 / (3 * 4) * (1 + 4 + 9 - 12) = 6, and p = exp(-6 / 2)."""
    assert ranks.friedman(np.array([[3, 2, 1]] * 3)) == pytest.approx((6.0, math.exp(-3)))
    assert ranks.friedman(np.ones((3, 3))) == (0.0, 1.0)


def test_wilcoxon_by_hand():
    """All n differences of one sign: 2 / 2^n; the least of four against the others: ranks 1 of 10, 4 / 16."""
    assert ranks.wilcoxon([1, 2, 3, 4, 5], [0, 0, 0, 0, 0]) == pytest.approx(2 / 32)
    assert ranks.wilcoxon([-1, 2, 3, 4, 7], [0, 0, 0, 0, 7]) == pytest.approx(4 / 16)
    assert ranks.wilcoxon([1, 2], [1, 2]) == 1.0


def test_holm_by_hand():
    assert ranks.holm([0.01, 0.02, 0.03, 0.5]) == pytest.approx([0.04, 0.06, 0.06, 0.5])
    assert ranks.holm([0.9, 0.8]) == [1.0, 1.0] and ranks.holm([]) == []


def test_methods_are_ranked_by_their_means_against_the_control():
    found = rank_methods(
        rows(
            none=[0.1, 0.2, 0.3, 0.4], opm=[0.2, 0.3, 0.4, 0.5], ogm=[0.3, 0.4, 0.5, 0.3], lone=[0.9, None, 0.9, 0.9]
        ),
        "accuracy",
    )
    assert found.mean_ranks == {"ogm": 1.5, "opm": 1.75, "none": 2.75} and next(iter(found.mean_ranks)) == "ogm"
    assert (found.control, found.left_out, found.sets) == ("none", ["lone"], ["s0", "s1", "s2", "s3"])
    assert found.p_values == pytest.approx({"ogm": 4 / 16, "opm": 2 / 16})
    assert found.adjusted == pytest.approx({"ogm": 4 / 16, "opm": 4 / 16})
    assert found.friedman[0] == pytest.approx(12 * 4 / 12 * (1.5**2 + 1.75**2 + 2.75**2 - 12))
    text = ranks_text(found, "accuracy")
    header, _, first, *_ = text.splitlines()
    assert [cell.strip() for cell in header.strip("|").split("|")] == [
        "method", "mean rank by accuracy", "Wilcoxon's p against none", "p by Holm"
    ]  # fmt: skip
    assert [cell.strip() for cell in first.strip("|").split("|")] == ["ogm", "1.50", "0.250", "0.250"]
    assert (
        "Not ranked, as not every data set has them: lone." in text
        and "p is at least 0.125, and the least by Holm at least 0.250" in text
    )
    assert "No difference between the methods is shown" in text
    assert rank_methods(rows(none=[1, 2, 3], opm=[2, 3, 4]), "accuracy", "opm").control == "opm"


def test_seeds_are_averaged_and_a_failed_metric_is_a_missing_set():
    several = rows(none=[0.5, 0.5], opm=[0.4, 0.6])
    several[2].runs.append({"seed": 1, "accuracy": 0.8})
    assert rank_methods(several, "accuracy").mean_ranks == {"opm": 1.0, "none": 2.0}
    assert rank_methods(several, "robust/worst") is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"none": [1, 2], "opm": [2, 3], "ogm": [3, 4]}, "2 data sets are too few for a test; it takes at least 3."),
        ({"none": [1, 2, 3], "opm": [2, 3, 4]}, "2 methods are too few for Friedman's test; it takes at least 3."),
    ],
)
def test_too_few_of_something(values, message):
    found = rank_methods(rows(**values), "accuracy")
    assert message in ranks_text(found, "accuracy") and found.friedman is found.critical_difference is None
    assert bool(found.p_values) == (len(values["none"]) > 2)


def test_a_single_set_or_method_is_not_ranked():
    assert rank_methods(rows(none=[1], opm=[2]), "accuracy") is None
    assert rank_methods(rows(none=[1, 2, 3]), "accuracy") is None


def test_a_difference_is_named_where_there_is_one():
    found = rank_methods(rows(a=[4] * 12, b=[3] * 12, c=[2] * 12, d=[1] * 12), "accuracy", "a")
    text = ranks_text(found, "accuracy")
    assert "Two methods differ at the level 0.05 if their mean ranks do by 1.35" in text and "< 0.001" in text
    assert ranks.not_told_apart(found.mean_ranks, found.critical_difference) == [["a", "b"], ["b", "c"], ["c", "d"]]
