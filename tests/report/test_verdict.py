from __future__ import annotations

import pytest

from hf_bml.analysis.row import Row
from hf_bml.report.verdict import Evidence, listed, recommendation, verdict


def evidence(
    accuracies,
    audio=2.0,
    probes=None,
    alone=None,
    alone_test=None,
    samples=None,
    seeds=None,
    modalities=("audio", "visual"),
):
    runs = [
        {"seed": seed, "accuracy": accuracy, "accuracy_audio": 0.6, "accuracy_visual": 0.4, "ratio_audio": audio}
        for seed, accuracy in zip(seeds or range(len(accuracies)), accuracies, strict=True)
    ]
    for run in runs:
        run["ratio_visual"] = 1 / audio
    probes = {m: dict(enumerate(values)) for m, values in (probes or {}).items()}
    return Evidence(Row("run", runs=runs), list(modalities), probes, "test", alone or {}, alone_test or {}, samples)


def test_who_dominates_and_what_changed():
    first = evidence([0.7, 0.71, 0.72], audio=2.4)
    assert verdict(first)[:2] == [
        "Audio dominates at the end of training: discrepancy ratio 2.40 (visual 0.42).",
        "Test accuracy 71.0 % ± 1.0 over 3 seeds.",
    ]
    sentences = verdict(evidence([0.8, 0.81, 0.82001], audio=1.3), first)
    assert sentences[0].endswith("discrepancy ratio 1.30 (visual 0.77); the ratio of audio went 2.40 → 1.30.")
    assert sentences[1].startswith(
        "Test accuracy 71.0 → 81.0 % (+10.0 points): better, beyond the noise between seeds"
    )


def test_balance():
    text = verdict(evidence([0.7], audio=1.05), evidence([0.7], audio=1.5))[0]
    assert text == (
        "Balanced at the end of training: the largest discrepancy ratio is 1.05 (audio); the ratio of audio went "
        "1.50 → 1.05."
    )
    assert "Visual dominates" in verdict(evidence([0.7], audio=0.5))[0]


@pytest.mark.parametrize(
    ("new", "words"),
    [
        ([0.8, 0.6, 0.7], "(+0.0 points): within noise (95 % interval of the paired difference −"),
        ([0.5, 0.52, 0.51], "(−19.0 points): worse, beyond the noise between seeds"),
        ([0.8], "One seed in common: noise between seeds is not known"),
    ],
)
def test_noise(new, words):
    assert words in " ".join(verdict(evidence(new), evidence([0.7, 0.7, 0.7])))


def test_two_seeds_are_too_few():
    """Differences 0.10 and 0.11 would exclude 0: 0.105 - 12.71 * 0.005 = 0.041."""
    text = verdict(evidence([0.8, 0.81], samples=410), evidence([0.7, 0.7]))[1]
    assert text.startswith(
        "Test accuracy 70.0 → 80.5 % (+10.5 points). Two seeds in common are too few to judge noise between seeds "
        "(95 % interval of the paired difference +4.1 to +16.9); the 410 test samples alone"
    )


@pytest.mark.parametrize("seeds", [2, 3])
def test_equal_differences_say_nothing_about_noise(seeds):
    first = [0.7, 0.72, 0.71][:seeds]
    text = verdict(evidence([value + 0.005 for value in first]), evidence(first))[1]
    assert f"(+0.5 points). The same difference in all {seeds} seeds: noise between seeds cannot be judged." in text
    assert "better" not in text


def test_only_common_seeds_are_compared():
    """Over all seeds the run looks better, in the seeds that both have it is worse by 9, 10 and 11 points."""
    first = evidence([0.1, 0.6, 0.6, 0.6], seeds=[0, 1, 2, 3])
    run = evidence([0.51, 0.5, 0.49, 0.9], seeds=[1, 2, 3, 4])
    run.row.runs[-1] |= {"ratio_audio": 5.0, "accuracy_audio": 1.0}
    assert verdict(run, first) == [
        "Over the 3 seeds in common with run; 2 others left out.",
        "Audio dominates at the end of training: discrepancy ratio 2.00 (visual 0.50); the ratio of audio went "
        "2.00 → 2.00.",
        "Test accuracy 60.0 → 50.0 % (−10.0 points): worse, beyond the noise between seeds (95 % interval of the "
        "paired difference −12.5 to −7.5, 3 seeds).",
        "Predictions of each modality alone, through the joint head: audio 60.0 → 60.0 %, visual 40.0 → 40.0 %.",
    ]


def test_one_seed_has_the_error_of_the_test_split():
    """sqrt((0.8 * 0.2 + 0.5 * 0.5) / 410) = 0.0316"""
    text = verdict(evidence([0.8], samples=410), evidence([0.5]))[1]
    assert "the 410 test samples alone leave a standard error of up to 3.2 points" in text


def test_other_seeds_are_no_pairs():
    text = verdict(evidence([0.8, 0.8], seeds=[5, 6]), evidence([0.5, 0.5]))[1]
    assert "No seed in common with run" in text


def test_probes_against_training_alone():
    first = evidence([0.7], probes={"audio": [0.7], "visual": [0.61]})
    run = evidence([0.7], probes={"audio": [0.71], "visual": [0.68]}, alone={"audio": 0.72, "visual": 0.75})
    assert verdict(run, first)[2:] == [
        "Linear probes on test: audio 70.0 → 71.0 % (trained alone 72.0 %), "
        "visual 61.0 → 68.0 % (trained alone 75.0 %).",
        "Under-trained compared to training alone: visual by 7.0 points.",
    ]


def test_probes_of_some_seeds():
    first = evidence([0.7, 0.7], probes={"audio": [0.7]})
    run = evidence([0.7, 0.7], probes={"audio": [0.8, 0.9]})
    assert verdict(run, first)[2] == "Linear probes on test, 1 seed: audio 70.0 → 80.0 %."  # the first seed's
    assert verdict(first)[2] == "Linear probes on test, 1 seed: audio 70.0 %."


def test_a_model_of_one_modality_is_no_probe():
    run = evidence([0.7], probes={"audio": [0.5]}, alone_test={"audio": 0.9})
    assert verdict(run)[2:] == [
        "Linear probes on test: audio 50.0 % (trained alone, its own test accuracy, not a probe's, 90.0 %)."
    ]
    assert "audio 60.0 % (trained alone 90.0 %), visual" in verdict(evidence([0.7], alone_test={"audio": 0.9}))[2]


def test_without_probes_the_joint_head_speaks():
    assert verdict(evidence([0.7]))[2] == (
        "Predictions of each modality alone, through the joint head: audio 60.0 %, visual 40.0 %."
    )


def test_one_modality():
    sentences = verdict(evidence([0.7], modalities=["audio"]))
    assert sentences == ["One modality, audio: nothing to balance.", "Test accuracy 70.0 % (one seed)."]


def test_three_modalities():
    run = evidence([0.7], modalities=["audio", "visual", "text"])
    run.row.runs[0]["ratio_text"] = 3.0
    assert verdict(run)[0] == (
        "Text dominates at the end of training: discrepancy ratio 3.00 (audio 2.00, visual 0.50)."
    )


def test_listed():
    assert [listed(["a"]), listed("ab"), listed(iter("abc"))] == ["a", "a and b", "a, b and c"]


def robust(label, accuracies, missing, noisy, validation=None):
    """Evidence of runs whose robustness was measured, also on validation if its missing accuracies are given."""
    found = evidence(accuracies)
    found.row.label = label
    runs = []
    for index, run in enumerate(found.row.runs):
        own = {"robust/missing_average": missing[index], "robust/dominant_noisy": noisy[index], "robust/worst": 0.1}
        if validation is not None:
            own |= {"validation_robust/missing_average": validation, "validation_robust/dominant_noisy": validation}
        runs.append({**run, **own})
    found.robust = Row(label, runs=runs)
    return found


PLAIN = robust("none", [0.9, 0.91, 0.92], [0.5, 0.52, 0.54], [0.4, 0.42, 0.44])
BETTER = robust("balanced", [0.9, 0.92, 0.91], [0.7, 0.73, 0.75], [0.5, 0.53, 0.55])
COSTLY = robust("opm", [0.8, 0.82, 0.81], [0.8, 0.83, 0.85], [0.6, 0.63, 0.65])


def test_robustness_comes_before_clean_accuracy():
    assert verdict(PLAIN)[:4] == [
        "One modality missing: mean accuracy 52.0 %.",
        "Dominant modality noisy: mean accuracy 42.0 %.",
        "Worst condition: 10.0 %.",
        "Clean: Test accuracy 91.0 % ± 1.0 over 3 seeds.",
    ]
    sentences = verdict(BETTER, PLAIN)
    assert sentences[0].startswith(
        "One modality missing, mean accuracy 52.0 → 72.7 % (+20.7 points): better, beyond the noise between seeds"
    )
    assert sentences[3].startswith("Clean: Test accuracy 91.0 → 91.0 %")


def test_the_row_to_take_does_not_lose_clean_accuracy():
    text = recommendation([PLAIN, BETTER, COSTLY])
    assert text.startswith("Take balanced: one modality missing +20.7 [+19.2, +22.1], dominant modality noisy +10.7 [")
    assert "clean data +0.0 [" in text and "points against none." in text and "thin" not in text
    assert "on the test split itself, as validation was not measured" in text
    assert text.endswith("Opm would keep more, but lost clean accuracy beyond the noise between seeds.")


def test_the_row_to_take_is_chosen_on_validation_where_it_was_measured():
    rows = [
        robust("none", [0.9], [0.5], [0.4], validation=0.4),
        robust("a", [0.9], [0.8], [0.8], validation=0.6),
        robust("b", [0.9], [0.6], [0.6], validation=0.7),
    ]
    text = recommendation(rows)
    assert text.startswith("Take b: one modality missing +10.0, dominant modality noisy +20.0, clean data +0.0 points")
    assert "The evidence is thin: none of its gains" in text and "on validation." in text


def test_nothing_is_recommended_without_a_comparison():
    assert recommendation([PLAIN]) == recommendation([evidence([0.9]), BETTER]) == ""
    text = recommendation([BETTER, PLAIN])
    assert text.startswith("Take balanced: no other row keeps more when a modality is missing or noisy.")
