from __future__ import annotations

import itertools
import math
import weakref

import pytest
import torch
from tiny import hand_computed_case
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hf_bml import OGM
from hf_bml.modulation import Gradients, MicroBatch, Step
from hf_bml.modulation.discrepancy import (
    TRANSFORMS,
    discrepancy_differences,
    discrepancy_ratios,
    discriminative_scores,
    inverse_ratios,
)
from hf_bml.modulation.ogm import (
    enhance_gradient,
    enhance_gradients,
    gradient_coefficients,
    gradient_entry_std,
    released_gradient_coefficients,
    scale_gradients,
    two_sided_coefficients,
)
from hf_bml.modulation.opm import drop_probabilities


def parameters_with_gradients(value=1.0):
    shapes = {"conv": (2, 1, 3, 3), "matrix": (4, 3), "bias": (4,)}
    result = {}
    for modality in ("audio", "visual"):
        result[modality] = [nn.Parameter(torch.zeros(shape)) for shape in shapes.values()]
        for parameter in result[modality]:
            parameter.grad = torch.full_like(parameter, value)
    return result


@pytest.mark.parametrize(
    ("form", "alpha", "expected"),
    [
        (gradient_coefficients, 0.8, (0.920266, 0.630306, 0.390725, 0.228778)),
        (released_gradient_coefficients, 0.8, (0.293581, 0.166345, 0.078331, 0.016325)),
        (gradient_coefficients, 0.1, (0.990033, 0.953788, 0.923841, 0.903597)),
        (released_gradient_coefficients, 0.1, (0.890442, 0.851115, 0.802625, 0.708687)),
    ],
)
def test_coefficients(form, alpha, expected):
    coefficients = form(torch.tensor([1.1, 1.5, 2.0, 3.0]), alpha)
    torch.testing.assert_close(coefficients, torch.tensor(expected), atol=1e-6, rtol=0)


def test_coefficients_are_one_below_and_at_a_ratio_of_one_and_never_negative():
    ratios = torch.tensor([0.5, 1.0, float("nan"), 100.0])
    assert gradient_coefficients(ratios, 3.0).tolist() == [1, 1, 1, 0]
    assert released_gradient_coefficients(ratios, 0.8).tolist()[:3] == [1, 1, 1]


def test_hand_computed_update():
    """T-B1: theta 1, g 0.5, eta 0.1; with h = 0.2 the update ends at 0.949884, without at 0.969884."""
    ratios = discrepancy_ratios(discriminative_scores(*hand_computed_case()))
    coefficients = gradient_coefficients(ratios, 0.8)
    torch.testing.assert_close(coefficients, torch.tensor([0.602315, 1.0]), atol=1e-6, rtol=0)
    for expected, modulate in (
        (0.969884, lambda g: scale_gradients([g], coefficients[0])),
        (0.949884, lambda g: enhance_gradient(g, coefficients[0], torch.tensor(0.2), torch.ones(1))),
    ):
        theta = nn.Parameter(torch.ones(1))
        theta.grad = torch.tensor([0.5])
        modulate(theta.grad)
        torch.optim.SGD([theta], lr=0.1).step()
        assert theta.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("measure", "transform", "probability", "coefficient"),
    [
        ("ratio", "tanh", 0.645696, 0.533774),
        ("ratio", "sigmoid", 0.710283, 0.327095),
        ("difference", "tanh", 0.750000, 0.200001),
        ("difference", "sigmoid", 0.749916, 0.200268),
    ],
)
def test_measures_and_transforms(measure, transform, probability, coefficient):
    """T-B3: S = (20, 12), alpha = 0.8, q_base = lam = 0.5."""
    scores = torch.tensor([20.0, 12.0])
    state = Step(("audio", "visual"), scores=scores, ratios=discrepancy_ratios(scores))
    discrepancy = OGM(measure=measure, transform=transform).config.discrepancy(state)
    z = TRANSFORMS[transform]
    assert drop_probabilities(discrepancy, 0.5, 0.5, z)[0].item() == pytest.approx(probability, abs=1e-6)
    assert gradient_coefficients(discrepancy, 0.8, z)[0].item() == pytest.approx(coefficient, abs=1e-6)
    assert drop_probabilities(discrepancy, 0.5, 0.5, z)[1].item() == 0


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 0.533774),
        ({"transform": "sigmoid"}, 0.327095),
        ({"measure": "difference"}, 0.200001),
        ({"measure": "difference", "transform": "sigmoid"}, 0.200268),
        ({"threshold": 1.5}, 0.867888),  # 1 - 0.8 tanh(20 / 12 - 1.5)
        ({"threshold": 1.7}, 1.0),
        ({"measure": "difference", "threshold": 7}, 0.390725),  # 1 - 0.8 tanh(8 - 7)
    ],
)
def test_options_reach_the_gradients(options, expected):
    """T-B3, and thresholds: z sees the distance to the threshold."""
    scores = torch.tensor([20.0, 12.0])
    state = Step(("audio", "visual"), scores=scores, ratios=discrepancy_ratios(scores))
    parameters = parameters_with_gradients()
    ogm = OGM(alpha=0.8, **options)
    ogm.bind(("audio", "visual"))
    ogm.modulate_gradients(Gradients(parameters), state)
    assert parameters["audio"][0].grad.flatten()[0].item() == pytest.approx(expected, abs=1e-6)
    assert (parameters["visual"][0].grad == 1).all()


def test_small_differences_are_inactive():
    """T-B3: the difference of T-A1 is 0.6, below the threshold of 1."""
    scores = discriminative_scores(*hand_computed_case())
    assert discrepancy_differences(scores)[0].item() == pytest.approx(0.6, abs=1e-6)
    assert gradient_coefficients(discrepancy_differences(scores), 0.8).tolist() == [1, 1]


def test_differences_of_three_modalities_and_of_an_unobserved_one():
    differences = discrepancy_differences(torch.tensor([9.0, 6.0, 3.0]))
    assert differences.tolist() == [4.5, 0.0, -4.5]
    observed = torch.tensor([True, False, True])
    assert discrepancy_differences(torch.tensor([9.0, 0.0, 3.0]), observed).tolist() == [6.0, 0.0, -6.0]


def test_noise_standard_deviation():
    """T-B2: unbiased."""
    assert gradient_entry_std(torch.tensor([1.0, 2, 3, 4])).item() == pytest.approx(1.290994, abs=1e-6)
    assert gradient_entry_std(torch.tensor([5.0])).item() == 0


def test_enhanced_gradient_has_the_mean_and_spread_of_the_method():
    torch.manual_seed(0)
    original = torch.randn(200_000) * 3 + 1
    gradient = original.clone()
    enhance_gradients([gradient], torch.tensor(0.25), torch.Generator().manual_seed(7))
    noise = gradient - 0.25 * original
    assert noise.mean().item() == pytest.approx(0, abs=0.03)
    assert noise.std().item() == pytest.approx(original.std().item(), rel=0.01)  # of the unscaled gradient
    assert torch.corrcoef(torch.stack([noise, original]))[0, 1].item() == pytest.approx(0, abs=0.01)


def rescored(keep_masks, modality_mask=None, reduce=None, **options):
    """The logged coefficients of T-A1, each sample a micro-batch, scored after drops."""
    logits, labels = hand_computed_case()
    scores = discriminative_scores(logits, labels)
    state = Step(("audio", "visual"), scores=scores, ratios=discrepancy_ratios(scores), sum_over_processes=reduce)
    ogm = OGM(alpha=0.8, rescore_after_drop=True, **options)
    ogm.bind(("audio", "visual"))
    features = {"audio": torch.eye(2, requires_grad=True), "visual": torch.eye(2, requires_grad=True)}
    for row, keep in enumerate(keep_masks):
        part = slice(row, row + 1)
        mask = None if modality_mask is None else torch.tensor(modality_mask[part])
        batch = MicroBatch({m: value[part] for m, value in logits.items()}, labels[part], mask)
        keep = None if keep is None else torch.tensor([keep])
        ogm.modulate_features({m: f[part] for m, f in features.items()}, batch, keep, state)
    ogm.modulate_gradients(Gradients(parameters_with_gradients()), state)
    return [value.item() for value in ogm.logs().values()]


def test_rescoring_without_drops_changes_nothing():
    assert rescored([None, [True, True]]) == pytest.approx([0.602315, 1], abs=1e-6)


def test_rescoring_sums_over_the_samples_that_kept_a_modality():
    """T-A1 with audio dropped in the first sample: S = (0.8, 1.1), so visual is ahead, by 1.375."""
    expected = 1 - 0.8 * math.tanh(0.375)
    assert rescored([[False, True], [True, True]]) == pytest.approx([1, expected], abs=1e-6)


def test_rescoring_tells_dropped_from_absent():
    """Audio is absent in the first sample: its mean over the samples that have it counts, 0.8 x 2 against 1.1."""
    expected = 1 - 0.8 * math.tanh(1.6 / 1.1 - 1)
    masks = [[False, True], [True, True]]
    assert rescored(masks, modality_mask=masks) == pytest.approx([expected, 1], abs=1e-6)


def test_rescoring_sums_over_processes_and_forgets_at_the_next_step():
    other = torch.tensor([[0.9, 0.0], [1.0, 1.0]])  # another process kept audio in one sample and visual in none
    expected = 1 - 0.8 * math.tanh(1.7 / 1.1 - 1)
    dropped = [[False, True], [True, True]]
    assert rescored(dropped, reduce=lambda totals: totals + other) == pytest.approx([expected, 1], abs=1e-6)


def test_rescoring_in_the_graph_takes_the_micro_batch():
    """First sample: audio dropped, so visual is infinitely ahead, k = 0.2; second: 0.8 / 0.5, k = 0.570362."""
    means = rescored([[False, True], [True, True]], placement="graph")
    second = 1 - 0.8 * math.tanh(0.6)
    assert means == pytest.approx([(1 + second) / 2, (0.2 + 1) / 2], abs=1e-6)


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_overflow_stays_visible_to_a_gradient_scaler(bad):
    gradient = torch.tensor([1.0, bad])
    enhance_gradients([gradient], torch.tensor(0.0), torch.Generator())
    assert not torch.isfinite(gradient).all()


@pytest.mark.parametrize(("which", "touched"), [("all", 3), ("matrix", 2), ("conv", 1)])
def test_which_parameters_are_scaled(which, touched):
    parameters = parameters_with_gradients()
    ogm = OGM(parameters=which)
    ogm.bind(("audio", "visual"))
    ogm.modulate_gradients(Gradients(parameters), Step(("audio", "visual"), ratios=torch.tensor([2.0, 0.5])))
    scaled = [p.grad.flatten()[0].item() != 1 for p in parameters["audio"]]
    assert scaled == [True] * touched + [False] * (3 - touched)
    assert parameters["audio"][0].grad.flatten()[0].item() == pytest.approx(0.390725, abs=1e-6)
    assert all((p.grad == 1).all() for p in parameters["visual"])
    assert ogm.logs()["ogm/coefficient_audio"].item() == pytest.approx(0.390725, abs=1e-6)


def test_frozen_parameters_are_skipped():
    parameters = parameters_with_gradients()
    parameters["audio"][1].grad = None
    for parameter in parameters["visual"]:
        parameter.grad = None
    ogm = OGM(noise="entry_std")
    ogm.bind(("audio", "visual"))
    ogm.modulate_gradients(Gradients(parameters), Step(("audio", "visual"), ratios=torch.tensor([2.0, 0.5])))
    assert parameters["audio"][1].grad is None


def noisy_gradients(**state):
    torch.manual_seed(0)
    parameters = parameters_with_gradients()
    for parameter in (p for group in parameters.values() for p in group):
        parameter.grad = torch.randn_like(parameter)
    ogm = OGM(noise="entry_std")
    ogm.bind(("audio", "visual"))
    before = [p.grad.clone() for p in parameters["visual"]]
    ogm.modulate_gradients(Gradients(parameters), Step(("audio", "visual"), ratios=torch.tensor([2.0, 0.5]), **state))
    return [p.grad - b for p, b in zip(parameters["visual"], before, strict=True)]


def test_noise_is_the_same_on_every_rank_and_differs_by_step_and_seed():
    base = noisy_gradients(seed=1, step=3, rank=0)
    assert all(noise.abs().sum() > 0 for noise in base)  # drawn although k = 1
    for same in ({"rank": 1},):
        assert all(map(torch.equal, base, noisy_gradients(**{"seed": 1, "step": 3, **same})))
    for other in ({"seed": 2}, {"step": 4}):
        assert not any(map(torch.equal, base, noisy_gradients(**{"seed": 1, "step": 3, **other})))


def test_noise_is_drawn_anew_for_every_modality_and_parameter():
    parameters = {m: [nn.Parameter(torch.zeros(2, 3)) for _ in range(2)] for m in ("audio", "visual")}
    for group in parameters.values():
        for parameter in group:
            parameter.grad = torch.arange(6.0).view(2, 3)
    ogm = OGM(noise="entry_std")
    ogm.bind(("audio", "visual"))
    ogm.modulate_gradients(Gradients(parameters), Step(("audio", "visual"), ratios=torch.ones(2)))  # k = 1 for both
    gradients = [parameter.grad for group in parameters.values() for parameter in group]
    for first, second in itertools.combinations(gradients, 2):
        assert not torch.isclose(first, second).any()


@pytest.mark.parametrize(("beta_max", "raised"), [(2.0, 1.410626), (3.0, 1.821251), (1.0, 1.0)])
def test_two_sided_coefficients(beta_max, raised):
    """T-A1's scores (1.7, 1.1), which give the ratios 1.1 / 1.7 and 1.7 / 1.1."""
    scores = discriminative_scores(*hand_computed_case())
    behind = inverse_ratios(scores)
    torch.testing.assert_close(behind, torch.tensor([0.647059, 1.545455]), atol=1e-6, rtol=0)
    parameters = parameters_with_gradients()
    ogm = OGM(preset="mlb", beta_max=beta_max)
    ogm.bind(("audio", "visual"))
    ogm.modulate_gradients(Gradients(parameters), Step(("audio", "visual"), scores=scores))
    assert [p[0].grad.flatten()[0].item() for p in parameters.values()] == pytest.approx([0.724919, raised], abs=1e-6)


def test_two_sided_coefficients_of_three_modalities():
    """Scores (1.8, 1.2, 0.8): the others' means over them are 1 / 1.8, 1.3 / 1.2 and 1.5 / 0.8. The head is left."""
    names, ogm = ("audio", "visual", "text"), OGM(preset="mlb")
    parameters = {name: [nn.Parameter(torch.zeros(1))] for name in (*names, "shared", "head")}
    for [parameter] in parameters.values():
        parameter.grad = torch.ones(1)
    ogm.bind(names)
    ogm.modulate_gradients(Gradients(parameters), Step(names, scores=torch.tensor([1.8, 1.2, 0.8])))
    assert [own[0].grad.item() for own in parameters.values()] == pytest.approx(
        [0.658707, 1.066568, 1.604368, 1, 1], abs=1e-6
    )


def test_two_sided_is_the_identity_where_there_is_nothing_to_balance():
    assert inverse_ratios(torch.tensor([0.7])).tolist() == [1]
    assert inverse_ratios(torch.tensor([3.0, 0.0]), torch.tensor([True, False])).tolist() == [1, 1]
    assert inverse_ratios(torch.tensor([4.0, 0.0, 2.0]), torch.tensor([True, False, True])).tolist() == [0.5, 1, 2]
    assert two_sided_coefficients(torch.tensor([1.0, math.nan]), 0.8, 2.0).tolist() == [1, 1]
    assert two_sided_coefficients(torch.tensor([0.2, 3.0]), 0.0, 2.0).tolist() == [1, 1]
    assert two_sided_coefficients(torch.tensor([0.0, 1e8]), 50.0, 2.0).tolist() == [0, 2]


def test_two_sided_in_the_graph_takes_the_same_coefficients():
    assert rescored([[True, True]] * 2, placement="graph", coefficient="two_sided") == pytest.approx(
        [1 + sum(math.tanh(0.8 * (x - 1)) for x in found) / 2 for found in ((0.6 / 0.9, 0.5 / 0.8), (1.5, 1.6))],
        abs=1e-6,
    )


def test_presets():
    paper, released = OGM().config, OGM(preset="released", alpha=0.1).config
    assert (paper.coefficient, paper.parameters, paper.start, paper.end) == ("paper", "all", 0, None)
    assert (paper.alpha, paper.noise, paper.measure, paper.transform) == (0.8, "none", "ratio", "tanh")
    assert (released.coefficient, released.parameters, released.start, released.end) == ("released", "conv", 6, 61)
    assert released.alpha == 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": -0.1}, r"alpha must be a number in \[0, inf\), found -0.1"),
        ({"noise": "gaussian"}, "noise must be one of"),
        ({"parameters": "bias"}, "parameters must be one of"),
        ({"start": 5, "end": 5}, "end must lie after start"),
        ({"preset": "released", "start": 70}, "start=70 and end=61"),
        ({"measure": "quotient"}, "measure must be one of"),
        ({"transform": "relu"}, "transform must be one of"),
        ({"unit": "minutes"}, "unit"),
        ({"threshold": 0.9}, r"threshold must be a number in \[1, inf\], found 0.9"),
        ({"measure": "difference", "threshold": -1}, r"threshold must be a number in \[0, inf\], found -1"),
        ({"coefficient": "released", "transform": "sigmoid"}, "takes no other transform, found 'sigmoid'"),
        ({"coefficient": "two_sided", "threshold": 1.5}, "on both sides of 1, found .* threshold=1.5"),
        ({"preset": "mlb", "measure": "difference"}, "on both sides of 1, found measure='difference'"),
        ({"preset": "mlb", "beta_max": 0.5}, "beta_max must be a number in"),
        ({"preset": "mlp"}, r"preset must be one of \['paper', 'released', 'mlb'\]"),
        ({"rescore_after_drop": "yes"}, "rescore_after_drop must be one of"),
        ({"alfa": 1}, "Did you mean 'alpha'"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        OGM(**options)


class LiveBytes(TorchDispatchMode):
    """Peak of the bytes that the operations inside allocate and still hold."""

    def __init__(self):
        super().__init__()
        self.live = self.peak = 0
        self.known = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        inputs = {a.untyped_storage().data_ptr() for a in tree_leaves((args, kwargs)) if isinstance(a, torch.Tensor)}
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage().data_ptr() not in inputs | self.known:
                storage = tensor.untyped_storage()
                self.known.add(storage.data_ptr())
                self.live += storage.nbytes()
                self.peak = max(self.peak, self.live)
                weakref.finalize(tensor, self._freed, storage.data_ptr(), storage.nbytes())
        return result

    def _freed(self, pointer, size):
        self.known.discard(pointer)
        self.live -= size


def test_noise_needs_no_more_memory_than_the_largest_parameter():
    gradients = [torch.randn(size) for size in (10_000, 40_000, 20_000)]
    with LiveBytes() as memory:
        enhance_gradients(gradients, torch.tensor(0.5), torch.Generator().manual_seed(0))
    assert 4 * 40_000 <= memory.peak <= 4 * 40_000 + 1000
