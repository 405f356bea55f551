from __future__ import annotations

import math

import pytest
import torch
from tiny import hand_computed_case, tiny_model

from hf_bml.modulation.discrepancy import (
    DiscrepancyMonitor,
    discrepancy_ratios,
    discriminative_scores,
    unimodal_scores,
)
from hf_bml.modulation.ogm import OGM
from hf_bml.modulation.ogm_star import OGMStar
from hf_bml.modulation.opm import OPM

TOLERANCE = 64 * torch.finfo(torch.float32).eps


def test_scores_and_ratios_of_the_hand_computed_case():
    logits, labels = hand_computed_case()
    torch.testing.assert_close(
        unimodal_scores(logits, labels), torch.tensor([[0.9, 0.8], [0.6, 0.5]]), atol=1e-6, rtol=0
    )
    scores = discriminative_scores(logits, labels)
    torch.testing.assert_close(scores, torch.tensor([1.7, 1.1]), atol=1e-6, rtol=0)
    torch.testing.assert_close(discrepancy_ratios(scores), torch.tensor([1.545455, 0.647059]), atol=1e-6, rtol=0)


def test_ratios_of_three_modalities():
    ratios = discrepancy_ratios(torch.tensor([1.8, 1.2, 0.8]))
    torch.testing.assert_close(ratios, torch.tensor([1.875, 1.083333, 0.555556]), atol=1e-6, rtol=0)


def test_scores_equal_a_naive_loop():
    torch.manual_seed(0)
    logits = {m: torch.randn(6, 5) for m in ("a", "b", "c")}
    labels = torch.randint(0, 5, (6,))
    expected = [sum(torch.softmax(logits[m][i], 0)[labels[i]].item() for i in range(6)) for m in logits]
    torch.testing.assert_close(discriminative_scores(logits, labels), torch.tensor(expected))


def test_segment_scores_sum_over_samples_and_segments():
    torch.manual_seed(0)
    logits = {m: torch.randn(2, 4, 5) for m in ("a", "b")}
    labels = torch.randint(0, 5, (2, 4))
    flat = discriminative_scores({m: value.flatten(0, 1) for m, value in logits.items()}, labels.flatten())
    torch.testing.assert_close(discriminative_scores(logits, labels), flat)


def test_masked_samples_do_not_count():
    logits, labels = hand_computed_case()
    mask = torch.tensor([[True, True], [False, True]])
    scores = discriminative_scores(logits, labels, mask)
    torch.testing.assert_close(scores, torch.tensor([0.9, 1.1]), atol=1e-6, rtol=0)


def test_half_precision_logits_are_scored_in_float32_and_detached():
    logits = {"a": torch.tensor([[30.0, 0.0]], dtype=torch.float16, requires_grad=True)}
    scores = discriminative_scores(logits, torch.tensor([1]))
    assert scores.dtype == torch.float32
    assert not scores.requires_grad
    assert 0 < scores.item() < 1e-12


@pytest.mark.parametrize("classes", [2, 10, 5000])
@pytest.mark.parametrize("offset", [0, -300, 1e4, -1e4])
def test_scores_are_those_of_float64_whatever_is_added_to_the_logits(offset, classes):
    generator = torch.Generator().manual_seed(0)
    logits = 5 * torch.randn(40, classes, generator=generator) + offset
    logits[::3, 1] = -math.inf  # a class that is masked out
    labels = torch.randint(0, classes, (40,), generator=generator)
    labels[0] = 1
    found = unimodal_scores({"a": logits}, labels)[0]
    expected = logits.double().softmax(-1)[torch.arange(40), labels]
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=0)
    assert found[0] == 0


def test_an_offset_of_1e4_does_not_move_a_score():
    score = unimodal_scores({"a": torch.tensor([[10001.0, 10000.0]])}, torch.tensor([0]))
    assert score.item() == pytest.approx(1 / (1 + math.exp(-1)), rel=1e-6)  # 0.7311, once 0.7309


def test_an_infinite_logit_gives_no_score():
    logits = {"a": torch.tensor([[math.inf, 0.0], [0.0, 1.0]])}
    assert unimodal_scores(logits, torch.tensor([0, 1])).isnan().tolist() == [[True, False]]


def near_perfect_cases(dtype=torch.float32):
    """204 batches in which both modalities are almost certain of the true class, by the same or different margins."""
    generator = torch.Generator().manual_seed(0)
    for case in range(204):
        shape = (8 + 8 * (case % 5), 2 + case % 7)
        labels = torch.randint(0, shape[1], shape[:1], generator=generator)
        margin = 6 + 30 * torch.rand(2, generator=generator)
        logits = torch.randn(2, *shape, generator=generator) * (case % 3)
        logits[:, torch.arange(shape[0]), labels] += margin[:, None]
        yield dict(zip("ab", logits.to(dtype), strict=True)), labels


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_rounding_decides_nothing_where_all_are_almost_certain(dtype):
    """Where the ratio in float64 is 1 within rounding, nobody is dominant; elsewhere float32 decides as float64."""
    near = 0
    for logits, labels in near_perfect_cases(dtype):
        ratios = discrepancy_ratios(discriminative_scores(logits, labels))
        scores = [value.double().softmax(-1)[torch.arange(len(labels)), labels].sum() for value in logits.values()]
        distance = abs((scores[0] / scores[1]).item() - 1)
        if distance < TOLERANCE / 2:
            near += 1
            assert ratios.tolist() == [1.0, 1.0]
        elif distance > 2 * TOLERANCE:
            assert (ratios > 1).tolist() == [(scores[0] > scores[1]).item(), (scores[1] > scores[0]).item()]
    assert 20 < near < 180


def tie(case):
    """Scores that differ by rounding alone: the same ones summed in another order, over segments or over samples that
    have the modality."""
    generator = torch.Generator().manual_seed(case)
    logits = 3 * torch.randn(96, 5, generator=generator)
    labels = torch.randint(0, 5, (96,), generator=generator)
    order = torch.argsort(labels)  # sorted by label, then shifted by one class and far from zero
    other = logits[order][:, [4, 0, 1, 2, 3]] + 100.0
    first = discriminative_scores({"a": logits}, labels)
    second = discriminative_scores({"b": other}, (labels[order] + 1) % 5)
    return torch.cat([first, second])


@pytest.mark.parametrize(
    ("modulation", "options"),
    [
        (OPM, {}),
        (OPM, {"measure": "difference", "threshold": 0}),
        (OGM, {}),
        (OGM, {"coefficient": "released"}),
        (OGMStar, {}),
        (OGMStar, {"mode": "constant"}),
    ],
)
def test_a_tie_of_scores_modulates_nobody(modulation, options):
    config = modulation(**options).config
    scores = [tie(case) for case in range(20)]
    assert any(a != b for a, b in scores)
    for each in scores:
        assert config.measured(each, None).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("measure", "threshold", "counts"),
    [("ratio", 1.25, (5, 4)), ("ratio", 3, (9, 3)), ("difference", 1, (4, 3)), ("difference", 20, (60, 40))],
)
def test_a_threshold_is_not_crossed_by_rounding(measure, threshold, counts):
    """Saturated modalities that are right on so many samples: the discrepancy is the threshold itself."""
    config = OPM(measure=measure, threshold=threshold).config
    for scale in (1 - 1e-6, 1 + 1e-6):
        scores = torch.tensor([counts[0] * scale, counts[1]])
        assert config.measured(scores, None)[0] == 1.0
    assert config.measured(torch.tensor([counts[0] * 1.0001, counts[1]]), None)[0] > 1


def test_the_tolerance_is_that_of_the_dtype():
    scores = torch.tensor([1 + 1e-9, 1.0], dtype=torch.float64)
    assert (discrepancy_ratios(scores) > 1).tolist() == [True, False]
    assert discrepancy_ratios(scores.float()).tolist() == [1.0, 1.0]
    assert discrepancy_ratios(torch.tensor([1.00002, 1.0]))[0] > 1


def test_ratios_of_one_modality_and_of_vanishing_scores():
    assert discrepancy_ratios(torch.tensor([3.0])).tolist() == [1.0]
    assert torch.isfinite(discrepancy_ratios(torch.tensor([1.0, 0.0]))).all()


def test_the_smallest_score_is_never_above_one():
    torch.manual_seed(0)
    for modalities in (2, 3, 5):
        for scores in torch.rand(50, modalities):
            assert discrepancy_ratios(scores)[scores.argmin()] <= 1


def test_an_unobserved_modality_is_left_out():
    ratios = discrepancy_ratios(torch.tensor([1.8, 0.0, 0.6]), torch.tensor([True, False, True]))
    torch.testing.assert_close(ratios, torch.tensor([3.0, 1.0, 1 / 3]))


@pytest.mark.parametrize("sizes", [(8,), (4, 4), (1,) * 8, (5, 3)])
def test_monitor_gives_the_same_ratios_however_the_batch_is_cut(sizes):
    torch.manual_seed(0)
    logits = {m: torch.randn(8, 3) for m in ("a", "b")}
    labels = torch.randint(0, 3, (8,))
    monitor = DiscrepancyMonitor(("a", "b"))
    start = 0
    for size in sizes:
        part = slice(start, start + size)
        monitor.update({m: value[part] for m, value in logits.items()}, labels[part])
        start += size
    monitor.step()
    expected = discriminative_scores(logits, labels)
    torch.testing.assert_close(monitor.scores, expected)
    torch.testing.assert_close(monitor.ratios, discrepancy_ratios(expected))


def test_monitor_compares_means_when_samples_lack_a_modality():
    logits, labels = hand_computed_case()
    monitor = DiscrepancyMonitor(("audio", "visual"))
    monitor.update(logits, labels, torch.tensor([[True, True], [False, True]]))
    monitor.step()
    torch.testing.assert_close(monitor.scores, torch.tensor([1.8, 1.1]), atol=1e-6, rtol=0)  # 0.9 x 2, not 0.9
    torch.testing.assert_close(monitor.ratios[0], torch.tensor(1.8 / 1.1), atol=1e-5, rtol=0)


def test_monitor_reduces_over_ranks_before_forming_ratios():
    logits, labels = hand_computed_case()
    monitor = DiscrepancyMonitor(("audio", "visual"))
    monitor.update(logits, labels)
    monitor.step(reduce=lambda totals: totals * 2)  # a second rank with the same batch
    torch.testing.assert_close(monitor.scores, torch.tensor([3.4, 2.2]), atol=1e-5, rtol=0)
    torch.testing.assert_close(monitor.ratios, torch.tensor([1.545455, 0.647059]), atol=1e-6, rtol=0)


def test_monitor_logs_means_of_ratios_and_accuracy():
    logits, labels = hand_computed_case()
    monitor = DiscrepancyMonitor(("audio", "visual"))
    for _ in range(2):
        monitor.update(logits, labels)
        monitor.step()
    logs = monitor.logs()
    assert logs["balance/score_audio"].item() == pytest.approx(0.85)
    assert logs["balance/ratio_visual"].item() == pytest.approx(0.647059, abs=1e-6)
    assert logs["unimodal/accuracy_audio"].item() == 1.0
    assert logs["unimodal/accuracy_visual"].item() == 0.5  # a tie goes to class 0
    assert monitor.logs() == {}


def test_monitor_state_round_trip():
    logits, labels = hand_computed_case()
    monitor, other = DiscrepancyMonitor(("audio", "visual")), DiscrepancyMonitor(("audio", "visual"))
    monitor.update(logits, labels)
    monitor.step()
    other.load_state_dict(monitor.state_dict())
    assert torch.equal(other.ratios, monitor.ratios)
    assert other.logs() == monitor.logs()


def test_monitor_step_without_update_is_an_error():
    with pytest.raises(RuntimeError, match="without any update"):
        DiscrepancyMonitor(("a",)).step()


@pytest.mark.parametrize(
    ("share", "expected"), [(0, 0.333333), (1 / 3, 0.442493), (1 / 2, 0.5), (2 / 3, 0.557507), (1, 0.666667)]
)
def test_bias_split(share, expected):
    """T-B4: W^m phi^m = (0, ln 2), b = (ln 4, 0), label 0."""
    model = tiny_model(num_labels=2, bias_split={"audio": share, "visual": 1 - share})
    linear = model.head.classifier[-1]
    with torch.no_grad():
        linear.weight.zero_()
        linear.weight[1, 0] = math.log(2)
        linear.bias.copy_(torch.tensor([math.log(4), 0.0]))
    features = {"audio": torch.eye(4)[:1], "visual": torch.zeros(1, 4)}
    logits = model.head.unimodal_logits(features)
    score = discriminative_scores({"audio": logits["audio"]}, torch.tensor([0]))
    assert score.item() == pytest.approx(expected, abs=1e-6)
