from __future__ import annotations

import pytest
import torch
from tiny import hand_computed_case

from hf_bml import OPM
from hf_bml.models.fusion import drop_features
from hf_bml.modulation import MicroBatch, Step
from hf_bml.modulation.discrepancy import discrepancy_ratios, discriminative_scores, tanh_shifted
from hf_bml.modulation.opm import drop_probabilities, keep_masks, mean_drop_probability


def bound(opm: OPM, ratios, modalities=("audio", "visual"), **state) -> tuple[OPM, Step]:
    ratios = None if ratios is None else torch.tensor(ratios)
    opm.bind(modalities)
    return opm, Step(modalities=modalities, ratios=ratios, **state)


def test_probabilities_of_the_hand_computed_case():
    """T-A1."""
    ratios = discrepancy_ratios(discriminative_scores(*hand_computed_case()))
    torch.testing.assert_close(tanh_shifted(ratios)[0], torch.tensor(0.497106), atol=1e-6, rtol=0)
    probabilities = drop_probabilities(ratios, q_base=0.5, lam=0.5)
    torch.testing.assert_close(probabilities, torch.tensor([0.624276, 0.0]), atol=1e-6, rtol=0)
    theta = mean_drop_probability(probabilities, [2, 2])
    assert theta.item() == pytest.approx(0.312138, abs=1e-6)
    assert 1 / (1 - theta.item()) == pytest.approx(1.453780, abs=1e-6)
    assert 0.7 * probabilities[0].item() == pytest.approx(0.436994, abs=1e-6)


@pytest.mark.parametrize(
    ("masks", "rescale", "expected", "loss"),
    [
        ([[False, True], [True, True]], True, [[0.589457, 0], [0, 2.015368]], 0.283172),
        ([[False, True], [True, True]], False, [[0.405465, 0], [0, 1.386294]], 0.366985),
        ([[True, True], [True, True]], False, [[2.602690, 0], [0, 1.386294]], 0.147301),
    ],
)
def test_forced_masks_through_a_linear_head(masks, rescale, expected, loss):
    """T-A1 with r^1 = (0, 1): the head sees dropped, optionally rescaled features."""
    weights, labels = hand_computed_case()
    features = drop_features({"audio": torch.eye(2), "visual": torch.eye(2)}, torch.tensor(masks))
    factor = 1.453780 if rescale else 1.0
    logits = sum(features[m] @ weights[m] * factor for m in weights)
    torch.testing.assert_close(logits, torch.tensor(expected), atol=2e-6, rtol=0)
    assert torch.nn.functional.cross_entropy(logits, labels).item() == pytest.approx(loss, abs=2e-6)


def test_probabilities_of_three_modalities():
    """T-A2. The joint drop probability is 0.6759764 * 0.5207852 = 0.352038."""
    probabilities = drop_probabilities(discrepancy_ratios(torch.tensor([1.8, 1.2, 0.8])), 0.5, 0.5)
    torch.testing.assert_close(probabilities, torch.tensor([0.675976, 0.520785, 0.0]), atol=1e-6, rtol=0)
    assert mean_drop_probability(probabilities, [1, 1, 1]).item() == pytest.approx(0.398921, abs=1e-6)
    assert mean_drop_probability(probabilities, [512, 256, 128]).item() == pytest.approx(0.535068, abs=1e-6)
    assert probabilities[:2].prod().item() == pytest.approx(0.352038, abs=1e-6)


def test_probability_is_clipped_at_one():
    """T-A3: 0.9 (1 + 0.5 tanh 2) = 1.333812."""
    assert 0.9 * (1 + 0.5 * tanh_shifted(torch.tensor(3.0)).item()) == pytest.approx(1.333812, abs=1e-6)
    assert drop_probabilities(torch.tensor([3.0, 0.3]), 0.9, 0.5).tolist() == [1.0, 0.0]


def test_no_drop_at_a_tie_or_for_nan():
    assert drop_probabilities(torch.tensor([1.0, float("nan")]), 0.5, 0.5).tolist() == [0.0, 0.0]


def test_keep_masks_follow_the_probabilities():
    torch.manual_seed(0)
    keep = keep_masks(torch.tensor([0.7, 0.0, 0.2]), torch.rand(20000, 3))
    torch.testing.assert_close(keep.float().mean(0), torch.tensor([0.3, 1.0, 0.8]), atol=0.015, rtol=0)
    together = (~keep[:, 0] & ~keep[:, 2]).float().mean().item()
    assert together == pytest.approx(0.7 * 0.2, abs=0.015)  # independent between modalities


def test_no_sample_loses_every_modality_it_has():
    uniform = torch.zeros(4, 2)
    assert keep_masks(torch.tensor([1.0, 1.0]), uniform).all()
    present = torch.tensor([[True, True], [True, False], [False, True], [True, True]])
    keep = keep_masks(torch.tensor([1.0, 0.0]), uniform, present)
    assert keep.tolist() == [[False, True], [True, False], [False, True], [False, True]]


def batch_of(size: int, modalities=("audio", "visual")) -> MicroBatch:
    return MicroBatch({m: torch.zeros(size, 2) for m in modalities}, torch.zeros(size, dtype=torch.long))


def test_first_step_drops_nothing_then_the_previous_ratios_act():
    batch, (opm, first) = batch_of(1000), bound(OPM(), None)
    assert opm.keep_modalities(batch, None, first).all()
    step = Step(("audio", "visual"), step=1, ratios=torch.tensor([1.5454545, 0.647]))
    keep = opm.keep_modalities(batch, None, step)
    assert keep[:, 0].float().mean().item() == pytest.approx(1 - 0.624276, abs=0.05)
    assert keep[:, 1].all()
    features = {"audio": torch.ones(1000, 2), "visual": torch.ones(1000, 2)}
    assert opm.modulate_features(features, batch, keep, step) is features  # no rescale by default
    logs = opm.logs()
    assert logs["opm/drop_probability_audio"].item() == pytest.approx(0.624276 / 2, abs=1e-5)  # mean of two steps
    assert logs["opm/drop_fraction_visual"].item() == 0


def test_draws_depend_on_seed_step_and_rank_alone():
    def keep(**state):
        opm, step = bound(OPM(), [2.0, 0.5], **state)
        return opm.keep_modalities(batch_of(64), None, step)

    base = keep(seed=1, step=5, rank=0)
    torch.manual_seed(123)
    assert torch.equal(base, keep(seed=1, step=5, rank=0))
    for other in ({"seed": 2}, {"step": 6}, {"rank": 1}):
        assert not torch.equal(base, keep(**{"seed": 1, "step": 5, "rank": 0, **other}))


def test_masks_of_micro_batches_continue_one_stream():
    opm, step = bound(OPM(), [2.0, 0.5])
    whole = opm.keep_modalities(batch_of(8), None, step)
    opm, step = bound(OPM(), [2.0, 0.5])
    parts = [opm.keep_modalities(batch_of(1), None, step) for _ in range(8)]
    assert torch.equal(whole, torch.cat(parts))


def test_released_preset_uses_the_current_batch_gates_and_rescales():
    opm, _ = bound(OPM(preset="released"), None)
    assert (opm.config.timing, opm.config.p_exe, opm.config.rescale) == ("current", 0.7, True)
    assert (opm.config.start, opm.config.end) == (6, None)
    batch = MicroBatch(*hand_computed_case())
    features = {"audio": torch.eye(2), "visual": torch.eye(2)}
    factors, executed = [], 0
    for number in range(400):
        step = Step(("audio", "visual"), step=number)
        keep = opm.keep_modalities(batch, None, step)
        out = opm.modulate_features(drop_features(features, keep), batch, keep, step)
        factor = out["visual"][0, 0].item()
        factors.append(round(factor, 4))
        executed += factor > 1
        assert torch.equal(out["audio"].sum(1), keep[:, 0] * out["visual"].sum(1))
    assert set(factors) == {1.0, 1.4538}
    assert executed / 400 == pytest.approx(0.7, abs=0.07)


def test_released_probability_carries_no_gradient():
    head = torch.nn.Linear(2, 2)
    features = {"audio": torch.eye(2, requires_grad=True), "visual": torch.eye(2)}
    batch = MicroBatch({m: head(f) for m, f in features.items()}, torch.tensor([0, 1]))
    opm, step = bound(OPM(preset="released", p_exe=1.0), None)
    keep = opm.keep_modalities(batch, None, step)
    out = opm.modulate_features(drop_features(features, keep), batch, keep, step)
    sum(value.sum() for value in out.values()).backward()
    assert head.weight.grad is None


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 0.645696),
        ({"transform": "sigmoid"}, 0.710283),
        ({"measure": "difference"}, 0.750000),
        ({"measure": "difference", "transform": "sigmoid"}, 0.749916),
        ({"threshold": 1.5}, 0.541286),  # 0.5 (1 + 0.5 tanh(20 / 12 - 1.5))
        ({"threshold": 1.7}, 0.0),
        ({"measure": "difference", "threshold": 0, "transform": "sigmoid"}, 0.749969),  # z shifted: sigmoid(8 + 1)
    ],
)
def test_options_reach_the_drop(options, expected):
    """T-B3, and thresholds."""
    opm = OPM(**options)
    opm.bind(("audio", "visual"))
    scores = torch.tensor([20.0, 12.0])
    step = Step(("audio", "visual"), scores=scores, ratios=discrepancy_ratios(scores))
    opm.keep_modalities(batch_of(4), None, step)
    logs = opm.logs()
    assert logs["opm/drop_probability_audio"].item() == pytest.approx(expected, abs=1e-6)
    assert logs["opm/drop_probability_visual"].item() == 0


def test_preset_paper():
    config = OPM().config
    assert (config.q_base, config.lam, config.timing, config.rescale, config.p_exe) == (0.5, 0.5, "previous", False, 1)
    assert (config.start, config.end, config.measure, config.transform) == (0, None, "ratio", "tanh")


def test_one_modality_is_never_dropped():
    (opm, step), batch = bound(OPM(rescale=True), [1.0], modalities=("audio",)), batch_of(4, ("audio",))
    assert opm.keep_modalities(batch, None, step) is None
    features = {"audio": torch.ones(4, 2)}
    assert opm.modulate_features(features, batch, None, step) is features


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"q_base": 0}, r"q_base must be a number in \(0, 1\), found 0"),
        ({"q_base": 1.0}, "q_base"),
        ({"q_base": float("nan")}, "q_base"),
        ({"q_base": "0.5"}, "q_base"),
        ({"lam": 0}, "lam"),
        ({"p_exe": 0}, "p_exe"),
        ({"timing": "next"}, "timing"),
        ({"qbase": 0.5}, "Did you mean 'q_base'"),
        ({"preset": "papers"}, "preset"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        OPM(**options)
