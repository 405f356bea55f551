from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
import torch

from hf_bml.processing.transforms.ivector import (
    BackgroundModel,
    IVector,
    TotalVariability,
    fit_total_variability,
    whitening,
)

SMALL = {"num_components": 4, "size": 3, "sampling_rate": 8000, "num_coefficients": 5, "num_mel_bins": 12}


def statistics(clips=200, frames=60, components=3, dim=4, size=2, seed=0):
    """Statistics of clips drawn from a known model, and the true w."""
    generator = np.random.default_rng(seed)
    loadings = generator.normal(size=(components, dim, size))
    variances = generator.uniform(0.5, 2, (components, dim))
    vectors = generator.normal(size=(clips, size))
    counts = generator.multinomial(frames, np.full(components, 1 / components), size=clips).astype(float)
    shifts = np.einsum("gdr,cr->cgd", loadings, vectors)
    noise = generator.normal(size=shifts.shape) * np.sqrt(counts[:, :, None] * variances)
    return counts, counts[:, :, None] * shifts + noise, loadings, variances, vectors


def test_posterior_by_hand():
    one = TotalVariability(np.ones((1, 1, 1)), np.ones((1, 1)))
    means, covariances, likelihoods = one.posterior(np.array([[4.0], [0.0]]), np.array([[[2.0]], [[0.0]]]))
    assert means.tolist() == [[0.4], [0.0]] and covariances.tolist() == [[[0.2]], [[1.0]]]
    np.testing.assert_allclose(likelihoods, [0.5 * (2 * 0.4 - np.log(5)), 0])


def test_posterior_by_the_formula_component_by_component():
    counts, sums, loadings, variances, _ = statistics(clips=5)
    means, covariances, _ = TotalVariability(loadings, variances).posterior(counts, sums)
    for clip in range(5):
        precision, evidence = np.eye(2), np.zeros(2)
        for g in range(3):
            weighted = loadings[g].T @ np.linalg.inv(np.diag(variances[g]))
            precision += counts[clip, g] * weighted @ loadings[g]
            evidence += weighted @ sums[clip, g]
        np.testing.assert_allclose(means[clip], np.linalg.solve(precision, evidence))
        np.testing.assert_allclose(covariances[clip], np.linalg.inv(precision))


def test_likelihood_is_that_of_the_marginal_gaussian():
    """log N(F; 0, N S + N^2 T T') - log N(F; 0, N S) for one component and dimension."""
    model = TotalVariability(np.full((1, 1, 1), 1.5), np.full((1, 1), 0.7))
    n, f = 6.0, 3.2
    log_normal = lambda variance: -0.5 * (np.log(variance) + f**2 / variance)  # noqa: E731
    expected = log_normal(n * 0.7 + n**2 * 1.5**2) - log_normal(n * 0.7)
    np.testing.assert_allclose(model.posterior(np.array([[n]]), np.array([[[f]]]))[2], expected)


def test_em_never_lowers_the_likelihood_and_recovers_the_model():
    counts, sums, loadings, variances, vectors = statistics()
    model, likelihoods = fit_total_variability(counts, sums, variances, size=2, iterations=20)
    assert len(likelihoods) == 20 and (np.diff(likelihoods) > -1e-9).all()
    assert likelihoods[-1] > likelihoods[0] + 10
    truth = TotalVariability(loadings, variances).posterior(counts, sums)[2].mean()
    assert model.posterior(counts, sums)[2].mean() > truth  # it is fitted to these clips
    # T is known up to a rotation of w: the shifts T_g w are not, and w is a linear map of the truth.
    found = model.posterior(counts, sums)[0]
    shifts = np.einsum("gdr,cr->cgd", model.loadings, found)
    expected = np.einsum("gdr,cr->cgd", loadings, vectors)
    assert np.corrcoef(shifts.ravel(), expected.ravel())[0, 1] > 0.98
    residual = vectors - found @ np.linalg.lstsq(found, vectors, rcond=None)[0]
    assert residual.var() < 0.05 * vectors.var()


def test_a_component_without_frames_and_a_clip_without_frames():
    counts, sums, _, variances, _ = statistics()
    counts[:, 1], sums[:, 1] = 0, 0
    counts[0], sums[0] = 0, 0
    model, likelihoods = fit_total_variability(counts, sums, variances, size=2, iterations=5)
    assert not model.loadings[1].any() and np.isfinite(model.loadings).all() and np.isfinite(likelihoods).all()
    assert not model.posterior(counts, sums)[0][0].any()


def test_background_model_and_statistics():
    generator = np.random.default_rng(0)
    frames = np.concatenate([generator.normal(-3, 0.5, (300, 2)), generator.normal(3, 1, (100, 2))])
    model = BackgroundModel.fit(frames, 2)
    order = np.argsort(model.means[:, 0])
    np.testing.assert_allclose(model.weights[order], [0.75, 0.25], atol=0.01)
    np.testing.assert_allclose(model.means[order], [[-3, -3], [3, 3]], atol=0.2)
    np.testing.assert_allclose(np.sqrt(model.variances[order]), [[0.5, 0.5], [1, 1]], atol=0.1)
    counts, sums = model.statistics(frames)
    np.testing.assert_allclose(counts[order], [300, 100], atol=0.5)
    np.testing.assert_allclose(sums, 0, atol=2)  # EM has converged: the means are those of the frames
    np.testing.assert_allclose(model.posteriors(frames).sum(1), 1)
    far = model.posteriors(np.array([[1e4, -1e4]]))
    assert np.isfinite(far).all()


def test_posteriors_equal_sklearns():
    from sklearn.mixture import GaussianMixture

    frames = np.random.default_rng(1).normal(size=(200, 3))
    mixture = GaussianMixture(3, covariance_type="diag", random_state=0).fit(frames)
    model = BackgroundModel(mixture.weights_, mixture.means_, mixture.covariances_)
    np.testing.assert_allclose(model.posteriors(frames), mixture.predict_proba(frames), atol=1e-9)


def test_whitening():
    vectors = np.random.default_rng(0).normal(size=(500, 3)) @ np.array([[2, 1, 0], [0, 1, 0], [0, 0, 0.1]]) + 5
    mean, matrix = whitening(vectors)
    white = (vectors - mean) @ matrix
    np.testing.assert_allclose(white.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(np.cov(white.T), np.eye(3), atol=1e-9)
    flat = np.concatenate([vectors[:, :2], np.ones((500, 1))], axis=1)  # no variation in one direction
    assert np.abs((flat - flat.mean(0)) @ whitening(flat)[1]).max() < 10


def word(low, high, seconds=0.4, rate=8000, seed=0):
    """Two tones in turn, so that something is left when the mean over time is removed."""
    time = np.arange(int(seconds * rate)) / rate
    frequency = np.where(time % 0.1 < 0.05, low, high)
    noise = np.random.default_rng(seed).normal(scale=0.01, size=len(time))
    return np.sin(2 * np.pi * frequency * time) * 0.5 + noise


def fitted(**options):
    transform = IVector(**{**SMALL, **options})
    clips = transform.extract([word(300, 600 * (1 + seed % 4), seed=seed) for seed in range(40)])
    transform.load_state(transform.fit(clips))
    return transform


def test_vectors_have_length_one_and_tell_sounds_apart():
    transform = fitted()
    vectors = torch.stack(transform([word(300, 600 * (1 + i % 2), seed=100 + i) for i in range(6)]))
    assert vectors.shape == (6, 3) and vectors.dtype == torch.float32
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(6))
    similarity = vectors @ vectors.T
    same = similarity[0::2, 0::2].min(), similarity[1::2, 1::2].min()
    assert min(same) > similarity[0::2, 1::2].max()


def test_fitting_is_repeatable_and_depends_on_the_seed():
    state = [fitted(**options)._variability.loadings for options in ({}, {}, {"seed": 1})]
    np.testing.assert_array_equal(state[0], state[1])
    assert not np.allclose(state[0], state[2])


def test_silence_and_short_clips(tmp_path):
    transform = fitted()
    assert torch.isfinite(transform([np.zeros(4000)])[0]).all()  # no speech, no crash
    with pytest.raises(ValueError, match="expected a level of at least min_rms"):
        fitted(min_rms=1e-3)([np.zeros(4000)])
    buffer = io.BytesIO()
    soundfile.write(buffer, np.ones(50), 8000, format="WAV")
    with pytest.raises(ValueError, match=r"click\.wav: expected at least one frame of 200 samples, found 50"):
        transform([{"bytes": buffer.getvalue(), "path": "click.wav"}])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size >= 1, found 0"),
        ({"num_components": 0}, "num_components >= 1"),
        ({"max_frames": 3, "num_components": 4}, "max_frames >= num_components=4, found 3"),
        ({"num_coefficients": 20, "num_mel_bins": 12}, "num_mel_bins >= num_coefficients=20"),
        ({"min_rms": 1.5}, r"min_rms in \[0, 1\)"),
    ],
)
def test_options(options, message):
    with pytest.raises(ValueError, match=message):
        IVector(**options)


def test_what_cannot_be_fitted():
    transform = IVector(**SMALL)
    with pytest.raises(ValueError, match="was fitted, found none"):
        transform([word(300, 600)])
    clips = transform.extract([word(300, 600, seed=seed) for seed in range(5)])
    with pytest.raises(ValueError, match="more clips to fit on than size=3, found 3"):
        transform.fit(clips[:3])
    with pytest.raises(ValueError, match="at least num_components=4 frames to fit on, found 3"):
        IVector(**{**SMALL, "size": 1}).fit([clips[0][:1]] * 3)
    with pytest.raises(ValueError, match="Fit again with these options"):
        IVector(**{**SMALL, "size": 4}).load_state(transform.fit(clips))


def test_a_subset_of_frames_suffices():
    all_frames, some = fitted(), fitted(max_frames=100)
    assert not np.allclose(all_frames._background.means, some._background.means)
    assert torch.isfinite(some([word(300, 600)])[0]).all()
