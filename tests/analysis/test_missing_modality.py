from __future__ import annotations

import numpy as np
import pytest

from hf_bml.analysis.coalitions import all_coalitions
from hf_bml.analysis.missing_modality import accuracy_with_missing, missing_grid, presence

CORRECT = {  # four samples
    (): np.array([True, False, False, False]),
    ("audio",): np.array([True, True, False, False]),
    ("visual",): np.array([False, False, True, False]),
    ("audio", "visual"): np.array([True, True, True, False]),
}


def test_lookup_by_hand():
    present = {"audio": np.array([True, True, False, False]), "visual": np.array([True, False, True, False])}
    # Row 0 has both: right; row 1 audio: right; row 2 visual: right; row 3 nothing: wrong.
    assert accuracy_with_missing(CORRECT, present) == 0.75
    swapped = {"audio": present["visual"], "visual": present["audio"]}
    assert accuracy_with_missing(CORRECT, swapped) == 0.25  # row 1 visual, row 2 audio: wrong


def test_masks_are_independent_bernoulli_draws():
    found = presence(200_000, {"audio": 0.1, "visual": 0.3}, seed=0)
    audio, visual = found["audio"], found["visual"]
    assert audio.mean() == pytest.approx(0.9, abs=0.003)
    assert visual.mean() == pytest.approx(0.7, abs=0.004)
    assert (audio & visual).mean() == pytest.approx(0.63, abs=0.005)


def test_masks_do_not_depend_on_the_model():
    """Neither on the order of its modalities nor on how many there are; and a higher rate takes more of the same."""
    first = presence(100, {"audio": 0.2, "visual": 0.3}, seed=4)
    second = presence(100, {"text": 0.5, "visual": 0.3, "audio": 0.2}, seed=4)
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert not np.array_equal(first["audio"], presence(100, {"audio": 0.2}, seed=5)["audio"])
    higher = presence(100, {"audio": 0.4}, seed=4)["audio"]
    assert (first["audio"] | ~higher).all() and higher.sum() < first["audio"].sum()


def test_rates_0_and_1():
    assert all(mask.all() for mask in presence(50, {"a": 0.0}, 0).values())
    assert not presence(50, {"a": 1.0}, 0)["a"].any()


def test_grid():
    options = {"fixed": "audio", "varied": "visual", "seeds": [0, 1, 2]}
    grid = missing_grid(CORRECT, ["audio", "visual"], fixed_rate=0.0, rates=[0.0, 1.0], **options)
    assert (grid["fixed"], grid["fixed_rate"], grid["varied"], grid["rates"]) == ("audio", 0.0, "visual", [0.0, 1.0])
    assert grid["accuracy"] == [0.75, 0.5]  # complete, and the audio alone
    assert grid["std"] == [0.0, 0.0]
    assert missing_grid(CORRECT, ["audio", "visual"], fixed_rate=1.0, rates=[1.0], **options)["accuracy"] == [0.25]


def test_grid_is_the_mean_over_seeds():
    modalities = ["audio", "visual"]
    accuracies = [
        accuracy_with_missing(CORRECT, presence(4, {"audio": 0.5, "visual": 0.3}, seed)) for seed in range(6)
    ]
    assert len(set(accuracies)) > 1
    grid = missing_grid(CORRECT, modalities, "audio", 0.5, "visual", [0.3], range(6))
    assert grid["accuracy"] == pytest.approx([np.mean(accuracies)])
    assert grid["std"] == pytest.approx([np.std(accuracies, ddof=1)])
    assert missing_grid(CORRECT, modalities, "audio", 0.5, "visual", [0.3], [0])["std"] == [None]


def test_a_third_modality_is_never_missing():
    correct = {c: np.array(["text" in c]) for c in all_coalitions(["audio", "visual", "text"])}
    grid = missing_grid(correct, ["audio", "visual", "text"], "audio", 1.0, "visual", [1.0], [0])
    assert grid["accuracy"] == [1.0]


def test_segments_of_a_sample_lose_it_together():
    """One sample with two rows: both are there or both are not, so the accuracy is 0 or 1."""
    correct = {c: np.array([bool(c)] * 2) for c in all_coalitions(["a", "b"])}
    samples = np.array([0, 0])
    found = [missing_grid(correct, ["a", "b"], "a", 1.0, "b", [0.5], [s], samples)["accuracy"][0] for s in range(20)]
    assert set(found) == {0.0, 1.0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fixed": "sound"}, "found 'sound'"),
        ({"varied": "audio"}, "found 'audio' twice"),
        ({"rates": [0.5, 1.5]}, r"rates: .*found \[1.5\]"),
        ({"rates": []}, "rates: .*found none"),
        ({"fixed_rate": -0.1}, r"fixed_rate: .*found \[-0.1\]"),
        ({"seeds": []}, "at least one seed"),
    ],
)
def test_bad_input(changes, message):
    options = {"fixed": "audio", "fixed_rate": 0.1, "varied": "visual", "rates": [0.1], "seeds": [0]}
    with pytest.raises(ValueError, match=message):
        missing_grid(CORRECT, ["audio", "visual"], **{**options, **changes})


def test_a_missing_coalition_is_named():
    with pytest.raises(ValueError, match=r"\('audio',\)"):
        accuracy_with_missing({(): CORRECT[()]}, {"audio": np.ones(4, dtype=bool)})
