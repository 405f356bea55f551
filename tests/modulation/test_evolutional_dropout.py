from __future__ import annotations

import pytest
import torch
from test_opm import batch_of

from hf_bml.modulation import EvolutionalDropout, Step
from hf_bml.modulation.evolutional_dropout import draw_counts, reweight, sampling_probabilities

X = torch.tensor([[3.0, 1.0], [4.0, 1.0]])


def test_probabilities():
    """T-D7: sqrt(12.5) and 1 of 4.535534."""
    torch.testing.assert_close(sampling_probabilities(X), torch.tensor([0.779519, 0.220481]), atol=1e-6, rtol=0)


def test_factors():
    """T-D7: one draw of the first unit gives 1.282843; two draws, one each, give (0.641421, 2.267767)."""
    probabilities = sampling_probabilities(X)
    one = reweight(torch.ones(1, 2), probabilities, torch.tensor([[1.0, 0.0]]), 1)
    torch.testing.assert_close(one, torch.tensor([[1.282843, 0.0]]), atol=1e-6, rtol=0)
    two = reweight(torch.ones(1, 2), probabilities, torch.tensor([[1.0, 1.0]]), 2)
    torch.testing.assert_close(two, torch.tensor([[0.641421, 2.267767]]), atol=1e-6, rtol=0)


def test_counts_by_inversion():
    """Cumulated (0.5, 0.5, 0.75, 1): the second unit, of probability 0, is never drawn."""
    counts = draw_counts(torch.tensor([0.5, 0, 0.25, 0.25]), torch.tensor([[0.0, 0.49, 0.5], [0.74, 0.75, 0.999]]))
    assert counts.tolist() == [[2, 0, 1, 0], [0, 0, 1, 2]]


def test_counts_are_multinomial():
    """20 draws: mean K p and variance K p (1 - p)."""
    torch.manual_seed(0)
    p = torch.tensor([0.5, 0.3, 0.2])
    counts = draw_counts(p, torch.rand(20000, 20))
    assert (counts.sum(1) == 20).all()
    torch.testing.assert_close(counts.mean(0), 20 * p, rtol=0.01, atol=0)
    torch.testing.assert_close(counts.var(0), 20 * p * (1 - p), rtol=0.05, atol=0)


def evolved(features, **state):
    dropout = EvolutionalDropout()
    dropout.bind(tuple(features))
    batch, step = batch_of(len(next(iter(features.values())))), Step(tuple(features), **state)
    return dropout.modulate_features(features, batch, None, step), dropout


def test_statistics_are_those_of_the_concatenated_feature_and_the_expectation_stays():
    torch.manual_seed(0)
    features = {"audio": torch.randn(4000, 6) * 3 + 1, "visual": torch.randn(4000, 2)}
    out, dropout = evolved(features)
    for name, feature in features.items():
        torch.testing.assert_close(out[name].mean(0), feature.mean(0), atol=0.3, rtol=0)
    joined = torch.cat(list(features.values()), 1)
    moments = joined.square().mean(0).sqrt()
    expected = 1 - (1 - moments / moments.sum()) ** 4  # units drawn at least once in 4 draws
    kept = torch.cat([(value != 0).float().mean(0) for value in out.values()])
    torch.testing.assert_close(kept, expected, atol=0.03, rtol=0)
    fraction = dropout.logs()["evolutional_dropout/drop_fraction"].item()
    assert fraction == pytest.approx(1 - expected.mean().item(), abs=0.02)


def test_padding_changes_no_probability():
    torch.testing.assert_close(sampling_probabilities(torch.cat([X, torch.zeros(5, 2)])), sampling_probabilities(X))


@pytest.mark.parametrize("words", [9, 10])
def test_sequences_have_their_units_dropped_by_modality(words):
    """Ten steps of sound and nine words or ten: the stronger text takes nothing from the sound."""
    generator = torch.Generator().manual_seed(0)
    text, audio = (torch.randn(400, length, 8, generator=generator) for length in (words, 10))
    out, _ = evolved({"text": 3 * text, "audio": audio})
    even = 1 - (1 - 1 / 8) ** 4  # eight units of equal moments, four draws
    for value in out.values():
        assert (value != 0).float().mean().item() == pytest.approx(even, abs=0.02)


def test_zero_features_stay_zero_and_finite():
    out, _ = evolved({"audio": torch.zeros(5, 3), "visual": torch.zeros(5, 2)})
    assert all(torch.equal(value, torch.zeros_like(value)) for value in out.values())


def test_gradient_goes_through_the_features_alone():
    """d out / d x is the factor, as the probabilities are detached."""
    features = {"audio": torch.rand(4, 6).requires_grad_(), "visual": torch.rand(4, 4)}
    out, _ = evolved(features)
    out["audio"].sum().backward()
    torch.testing.assert_close(features["audio"].grad * features["audio"].detach(), out["audio"].detach())


def test_draws_depend_on_the_step():
    features = {"audio": torch.rand(4, 6), "visual": torch.rand(4, 4)}
    assert torch.equal(evolved(features, step=1)[0]["audio"], evolved(features, step=1)[0]["audio"])
    assert not torch.equal(evolved(features, step=1)[0]["audio"], evolved(features, step=2)[0]["audio"])


def test_bad_options():
    with pytest.raises(ValueError, match=r"p must be a number in \[0, 1\), found 1"):
        EvolutionalDropout(p=1)
