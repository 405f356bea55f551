from __future__ import annotations

import pytest
import torch
from test_ogm import parameters_with_gradients
from tiny import hand_computed_case

from hf_bml.modulation import Gradients, OGMStar, Step, discrepancy_ratios, discriminative_scores


def hand_computed_state() -> Step:
    scores = discriminative_scores(*hand_computed_case())
    return Step(("audio", "visual"), scores=scores, ratios=discrepancy_ratios(scores))


def coefficients_of(state: Step, **options) -> list[float]:
    ogm_star = OGMStar(**options)
    return ogm_star.coefficients(ogm_star.config.discrepancy(state)).tolist()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 1.397685),
        ({"coefficient": "released"}, 1.844415),
        ({"mode": "constant"}, 4),
        ({"mode": "constant", "constant": 2.5}, 2.5),
        ({"preset": "released"}, 4),
    ],
)
def test_the_weaker_modality_of_the_hand_computed_case_is_raised(options, expected):
    """T-B5."""
    assert coefficients_of(hand_computed_state(), alpha=0.8, **options) == pytest.approx([1, expected], abs=1e-6)


def test_for_two_modalities_it_is_ogm_mirrored():
    """1 + alpha z(rho) with the dominant ratio, where OGM has 1 - alpha z(rho); strong alphas are not clipped."""
    dominant = 1.7 / 1.1
    expected = 1 + 3 * torch.tanh(torch.tensor(dominant - 1)).item()
    assert coefficients_of(hand_computed_state(), alpha=3.0) == pytest.approx([1, expected], abs=1e-5)


def test_three_modalities():
    """Ratios (1.875, 1.083333, 0.555556): only the third is behind, by 1.8; tanh(0.8) = 0.664037."""
    scores = torch.tensor([1.8, 1.2, 0.8])
    state = Step(("a", "b", "c"), scores=scores, ratios=discrepancy_ratios(scores))
    assert coefficients_of(state, alpha=0.8) == pytest.approx([1, 1, 1.531229], abs=1e-6)


def test_difference_of_the_scores():
    """S = (20, 12): behind by 8, tanh(7) = 0.999998; T-A1 is behind by 0.6, below the threshold."""
    scores = torch.tensor([20.0, 12.0])
    state = Step(("audio", "visual"), scores=scores, ratios=discrepancy_ratios(scores))
    assert coefficients_of(state, alpha=0.8, measure="difference") == pytest.approx([1, 1.799999], abs=1e-6)
    assert coefficients_of(hand_computed_state(), measure="difference") == [1, 1]


def test_a_tie_an_unobserved_modality_and_nan_are_left_alone():
    ratios = torch.tensor([1.0, 1.0, float("nan")])
    assert coefficients_of(Step(("a", "b", "c"), scores=ratios, ratios=ratios)) == [1, 1, 1]


@pytest.mark.parametrize("noise", ["none", "entry_std"])
def test_acts_on_the_gradients_of_the_weaker_encoder(noise):
    parameters = parameters_with_gradients()
    ogm_star = OGMStar(alpha=0.8, parameters="matrix", noise=noise)
    ogm_star.bind(("audio", "visual"))
    ogm_star.modulate_gradients(Gradients(parameters), hand_computed_state())
    raised = [p.grad.flatten()[0].item() for p in parameters["visual"]]  # all entries are 1, so the noise has std 0
    assert raised == pytest.approx([1.397685, 1.397685, 1], abs=1e-6)
    assert all((p.grad == 1).all() for p in parameters["audio"])
    assert ogm_star.logs()["ogm_star/coefficient_visual"].item() == pytest.approx(1.397685, abs=1e-6)


def test_released_preset():
    config = OGMStar(preset="released").config
    assert (config.mode, config.constant, config.parameters, config.start, config.end) == (
        "constant", 4, "conv", 6, 61,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "fixed"}, "mode must be one of"),
        ({"constant": 0.5}, r"constant .* \[1, inf\)"),
        ({"preset": "mlb"}, "preset must be one of"),
        ({"coefficient": "two_sided"}, "coefficient must be one of"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        OGMStar(**options)
