from __future__ import annotations

import numpy as np
import pytest

from hf_bml.analysis.metric_names import lower_is_better
from hf_bml.analysis.predictions import Predictions
from hf_bml.analysis.robustness import (
    Condition,
    by_dominance,
    dominant_modality,
    robustness_summary,
    vote_sizes,
    weak_modality,
    with_common_dominant,
)
from hf_bml.analysis.row import Row


def noisy(accuracy, modality, name, ece=0.2):
    return Condition("noisy", accuracy, ece, 10, (modality,), name)


def missing(accuracy, *modalities):
    return Condition("missing", accuracy, 0.0, 10, modalities)


SIDES = ("audio", "visual")
CLEAN = Condition("clean", 0.9, 0.05, 10)
CONDITIONS = [
    CLEAN,
    *[noisy(0.8, "audio", "white_noise"), noisy(0.6, "audio", "white_noise"), noisy(0.3, "audio", "telephone", 0.5)],
    noisy(0.85, "visual", "blur", 0.1),
    noisy(0.75, "text", "word_drop", 0.0),
    *[missing(0.4, "audio"), missing(0.7, "visual"), missing(0.85, "text"), missing(0.1, "audio", "visual")],
]


def test_summary_by_hand():
    """Kinds count once whatever their severities; a missing pair is in no average and not the worst."""
    found = robustness_summary(CONDITIONS, "audio")
    assert found == {
        "clean": 0.9,
        "missing_average": pytest.approx((0.4 + 0.7 + 0.85) / 3),
        "worst": 0.3,
        "ece_clean": 0.05,
        "ece_noisy": pytest.approx((0.2 + 0.2 + 0.5 + 0.1 + 0.0) / 5),
        "missing_audio": 0.4,
        "missing_visual": 0.7,
        "missing_text": 0.85,
        "missing_audio+visual": 0.1,
        "noisy_audio": pytest.approx((0.7 + 0.3) / 2),
        "noisy_audio/white_noise": pytest.approx(0.7),
        "noisy_audio/telephone": 0.3,
        "noisy_visual": 0.85,
        "noisy_visual/blur": 0.85,
        "noisy_text": 0.75,
        "noisy_text/word_drop": 0.75,
        "dominant_noisy": pytest.approx(0.5),
        "others_noisy": pytest.approx(0.8),
    }
    assert list(by_dominance(found, "visual").values()) == [0.85, pytest.approx((0.5 + 0.75) / 2)]


def test_summary_of_little():
    assert robustness_summary([CLEAN]) == {"clean": 0.9, "ece_clean": 0.05}
    alone = robustness_summary([CLEAN, noisy(0.5, "audio", "babble")], "audio")
    assert (alone["worst"], alone["dominant_noisy"]) == (0.5, 0.5)
    assert "missing_average" not in alone and "others_noisy" not in alone
    with pytest.raises(ValueError, match="expected a clean condition, found none"):
        robustness_summary([missing(0.5, "audio")])


def test_the_modality_whose_absence_costs_most_is_dominant():
    assert dominant_modality({"audio": 0.7, "visual": 0.4, "text": 0.9}) == "visual"
    assert dominant_modality({}) is None


def test_the_modality_whose_absence_costs_least_is_weak():
    without = {"audio": 0.7, "visual": 0.4, "text": 0.9}
    assert weak_modality(without, "visual", without) == "text"
    assert weak_modality(without, "text", without) == "audio"  # where another one was given as the dominant
    alike = {"audio": 0.5, "visual": 0.5}
    assert weak_modality(alike, dominant_modality(alike), alike) == "visual"
    assert weak_modality(["audio", "visual"], "visual", {}) == "audio"
    assert weak_modality(["audio"], "audio", {}) is None and weak_modality(without, "audio", {}) is None


def test_less_calibration_error_is_better():
    assert lower_is_better("robust/ece_noisy") and lower_is_better("validation_robust/ece_clean")
    assert not lower_is_better("robust/worst")


def run(seed, audio, visual, noisy_audio, noisy_visual, own):
    """A run's entries, whose own choice is `own`."""
    return {
        "seed": seed,
        "robust/clean": 0.9,
        "robust/missing_average": 0.5,
        "robust/noisy_audio": noisy_audio,
        "robust/noisy_audio/babble": noisy_audio,
        "robust/noisy_visual": noisy_visual,
        "robust/noisy_visual/blur": noisy_visual,
        "robust/dominant_noisy": own,
        "robust/others_noisy": own,
        "validation_robust/clean": 0.8,
        "validation_robust/missing_audio": audio,
        "validation_robust/missing_visual": visual,
    }


def test_one_dominant_modality_for_all_rows():
    """Over the two plain runs the audio's absence costs more, 40 against 35 points, though not in the second one."""
    plain = Row("none", methods="none", runs=[run(0, 0.3, 0.5, 0.6, 0.7, 0.6), run(1, 0.5, 0.4, 0.5, 0.8, 0.8)])
    other = Row("opm", methods="opm", runs=[run(0, 0.7, 0.1, 0.65, 0.75, 0.75)])
    alone = Row("unimodal", methods="unimodal")
    alone.runs = [{"seed": 0, "robust/clean": 0.7, "robust/noisy_visual": 0.6, "robust/noisy_visual/blur": 0.6}]
    rows, notes = with_common_dominant([other, plain, alone])
    assert [[run["robust/dominant_noisy"] for run in row.runs] for row in rows] == [[0.65], [0.6, 0.5], [0.7]]
    assert [[run["robust/others_noisy"] for run in row.runs] for row in rows] == [[0.75], [0.7, 0.8], [0.6]]
    assert notes[0] == "Dominant for all rows: audio, whose absence costs none most on validation (40.0 points)."
    assert "(audio: babble; visual: blur)" in notes[1] and notes[2].startswith("unimodal: a single modality")
    assert plain.runs[1]["robust/dominant_noisy"] == 0.8  # rows that are given stay as they are


def test_size_of_votes_by_hand():
    """Of centred logits, over the rows that have the modality."""
    shares = {"audio": np.array([[5.0, 11.0], [2.0, 2.0]]), "visual": np.array([[1.0, 1.0], [10.0, 2.0]])}
    present = {"audio": np.array([True, True]), "visual": np.array([True, False]), "text": np.array([False, False])}
    shares["text"] = shares["audio"]
    found = Predictions(np.zeros(2, int), sum(shares.values()), np.arange(2), shares, present)
    assert vote_sizes(found) == {"audio": pytest.approx(np.sqrt(18) / 2), "visual": 0.0}


def test_one_weak_modality_for_all_rows():
    """Over the two plain runs the visual's absence costs less, though not in the second one."""
    probes = {"robust/probe_audio": 0.8, "robust/probe_visual": 0.3}
    plain = Row("none", methods="none")
    plain.runs = [run(0, 0.3, 0.5, 0.6, 0.7, 0.6) | probes, run(1, 0.5, 0.4, 0.5, 0.8, 0.8) | probes]
    plain.runs[1]["robust/probe_weak"] = 0.8
    alone = [Row(name, methods="unimodal", runs=[{"seed": 0, f"robust/probe_{name}": 0.9}]) for name in SIDES]
    old = Row("opm", methods="opm", runs=[run(0, 0.7, 0.1, 0.65, 0.75, 0.75)])
    rows, notes = with_common_dominant([plain, *alone, old])
    assert [[one.get("robust/probe_weak") for one in row.runs] for row in rows] == [[0.3, 0.3], [None], [0.9], [None]]
    assert notes[1].startswith("Weak for all rows: visual, whose absence costs least (35.0 points)")
    rows, notes = with_common_dominant([plain, *alone], "visual")
    assert rows[0].runs[0]["robust/probe_weak"] == 0.8 and rows[0].runs[0]["robust/dominant_noisy"] == 0.7
    assert notes[0] == "Dominant: visual, as given." and notes[1].startswith("Weak for all rows: audio")


def test_without_robustness_nothing_is_said():
    rows, notes = with_common_dominant([Row("none", runs=[{"seed": 0, "accuracy": 0.5}])])
    assert notes == [] and rows[0].runs == [{"seed": 0, "accuracy": 0.5}]


def test_each_recipe_has_its_own_dominant_modality():
    rows = [
        Row("none", recipe="a", methods="none", runs=[run(0, 0.3, 0.5, 0.6, 0.7, 0.1)]),
        Row("none", recipe="b", methods="none", runs=[run(0, 0.5, 0.3, 0.6, 0.7, 0.1)]),
    ]
    found, notes = with_common_dominant(rows)
    assert [row.runs[0]["robust/dominant_noisy"] for row in found] == [0.6, 0.7]
    assert notes[0].startswith("a: Dominant for all rows: audio") and notes[1].startswith("b: Dominant")
