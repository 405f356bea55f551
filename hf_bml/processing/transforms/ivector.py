"""I-vectors: a clip's sound as one short vector (Dehak et al., IEEE TASLP 2011), learned on the training clips.

A Gaussian mixture with diagonal covariances, the background model (UBM), describes the frames of all clips: weights
pi_g, means m_g, covariances S_g, g = 1...G. A clip shifts its means along few directions, `m_g + T_g w` with
`w ~ N(0, I)`. With the clip's statistics `N_g = sum_t gamma_t(g)` and `F_g = sum_t gamma_t(g) (x_t - m_g)`, its
i-vector is the posterior mean

    w = (I + sum_g N_g T_g' S_g^-1 T_g)^-1 sum_g T_g' S_g^-1 F_g,

here whitened and scaled to length 1. Nothing of it sees a label.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy.special import logsumexp
from torch import Tensor

from ..media.file import MediaError, file_name
from ..media.waveform import check_min_rms, read_audible_waveform
from .base import Transform, check_at_least_one
from .cepstra import frame_samples, mfcc, normalized_over_time, with_deltas

UBM_ITERATIONS = 30
VARIANCE_FLOOR = 1e-3  # of features whose variance is 1
CLIPS_AT_ONCE = 64
EIGENVALUE_FLOOR = 1e-6  # relative to the largest


@dataclass(frozen=True)
class BackgroundModel:
    """A Gaussian mixture with diagonal covariances.

    Attributes:
        weights: `(components,)`, summing to 1.
        means: `(components, dim)`.
        variances: `(components, dim)`, positive.
    """

    weights: np.ndarray
    means: np.ndarray
    variances: np.ndarray

    @classmethod
    def fit(cls, frames: np.ndarray, num_components: int, seed: int = 0) -> BackgroundModel:
        """By EM on `frames (frames, dim)`, from k-means."""
        from sklearn.exceptions import ConvergenceWarning  # slow to import
        from sklearn.mixture import GaussianMixture

        mixture = GaussianMixture(
            num_components,
            covariance_type="diag",
            reg_covar=VARIANCE_FLOOR,
            max_iter=UBM_ITERATIONS,
            random_state=seed,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a background model takes a fixed number of steps
            mixture.fit(frames)
        return cls(mixture.weights_, mixture.means_, mixture.covariances_)

    def posteriors(self, frames: np.ndarray) -> np.ndarray:
        """gamma, the probability of each component given a frame: `(frames, dim)` to `(frames, components)`."""
        precisions = 1 / self.variances
        distances = (
            frames**2 @ precisions.T - 2 * frames @ (self.means * precisions).T + (self.means**2 * precisions).sum(1)
        )
        scores = np.log(self.weights) - 0.5 * (np.log(self.variances).sum(1) + distances)
        return np.exp(scores - logsumexp(scores, axis=1, keepdims=True))

    def statistics(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Baum-Welch statistics of a clip's `frames (frames, dim)`: N `(components,)` and the centred F
        `(components, dim)`.

        Example:
            >>> one = BackgroundModel(np.ones(1), np.zeros((1, 1)), np.ones((1, 1)))
            >>> [statistic.tolist() for statistic in one.statistics(np.array([[0.5], [1.5]]))]
            [[2.0], [[2.0]]]
        """
        gamma = self.posteriors(frames)
        counts = gamma.sum(0)
        return counts, gamma.T @ frames - counts[:, None] * self.means


@dataclass(frozen=True)
class TotalVariability:
    """The directions in which clips shift the background model's means.

    Attributes:
        loadings: T, `(components, dim, size)`.
        variances: S, of the background model, `(components, dim)`.
    """

    loadings: np.ndarray
    variances: np.ndarray

    @cached_property
    def weighted(self) -> np.ndarray:
        """`S_g^-1 T_g`, `(components, dim, size)`."""
        return self.loadings / self.variances[:, :, None]

    @cached_property
    def information(self) -> np.ndarray:
        """`T_g' S_g^-1 T_g`, `(components, size, size)`: what one frame of a component tells about w."""
        return np.einsum("gdr,gds->grs", self.loadings, self.weighted)

    def posterior(self, counts: np.ndarray, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The distribution of w given the statistics of clips.

        Args:
            counts: N, `(clips, components)`.
            sums: F, `(clips, components, dim)`.

        Returns:
            means `(clips, size)`, the i-vectors; covariances `(clips, size, size)`; log-likelihoods `(clips,)` of the
            statistics, up to what does not depend on T.

        Example:
            >>> model = TotalVariability(np.ones((1, 1, 1)), np.ones((1, 1)))
            >>> model.posterior(np.array([[4.0], [0.0]]), np.array([[[2.0]], [[0.0]]]))[0].tolist()
            [[0.4], [0.0]]
        """
        size = self.loadings.shape[2]
        precisions = np.eye(size) + (counts @ self.information.reshape(len(self.information), -1)).reshape(
            -1, size, size
        )
        evidence = sums.reshape(len(sums), -1) @ self.weighted.reshape(-1, size)  # (clips, size)
        covariances = np.linalg.inv(precisions)
        means = np.einsum("crs,cs->cr", covariances, evidence)
        likelihoods = 0.5 * ((means * evidence).sum(1) - np.linalg.slogdet(precisions)[1])
        return means, covariances, likelihoods


def fit_total_variability(
    counts: np.ndarray, sums: np.ndarray, variances: np.ndarray, size: int, iterations: int = 10, seed: int = 0
) -> tuple[TotalVariability, list[float]]:
    """T by expectation maximisation with minimum divergence (Kenny et al., IEEE TASLP 2008), which converges sooner.

    Args:
        counts: N, `(clips, components)`.
        sums: F, `(clips, components, dim)`.
        variances: S, `(components, dim)`.
        size: of the i-vector.
        iterations: of EM.
        seed: of the random start.

    Returns:
        the model, and the log-likelihood per clip before each iteration and after the last, which never falls.
    """
    components, dim = variances.shape
    start = np.random.default_rng(seed).standard_normal((components, dim, size))
    model = TotalVariability(0.1 * start * np.sqrt(variances)[:, :, None], variances)
    likelihoods = []
    for _ in range(iterations):
        moments = np.zeros((components, size * size))  # sum over clips of N_g E[w w']
        products = np.zeros((components * dim, size))  # sum over clips of F_g E[w]'
        second_moment = np.zeros((size, size))  # sum over clips of E[w w']
        total = 0.0
        for first in range(0, len(counts), CLIPS_AT_ONCE):
            clips = slice(first, first + CLIPS_AT_ONCE)
            means, covariances, each = model.posterior(counts[clips], sums[clips])
            second = covariances + means[:, :, None] * means[:, None, :]
            moments += counts[clips].T @ second.reshape(len(means), -1)
            products += sums[clips].reshape(len(means), -1).T @ means
            second_moment += second.sum(0)
            total += float(each.sum())
        likelihoods.append(total / len(counts))
        moments = moments.reshape(components, size, size)
        moments += 1e-10 * np.eye(size)  # a component that no frame belongs to gets T_g = 0
        loadings = np.linalg.solve(moments, products.reshape(components, dim, size).transpose(0, 2, 1))
        scale = np.linalg.cholesky(second_moment / len(counts))  # minimum divergence: w has unit covariance again
        model = TotalVariability(loadings.transpose(0, 2, 1) @ scale, variances)
    return model, likelihoods


def whitening(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean `(size,)` and the symmetric matrix `(size, size)` that make `(vectors - mean) @ matrix` white.

    Directions in which `vectors (clips, size)` hardly vary are not enlarged beyond a thousand times the widest one.
    """
    mean = vectors.mean(0)
    eigenvalues, directions = np.linalg.eigh(np.cov(vectors.T).reshape(len(mean), -1))
    scale = 1 / np.sqrt(eigenvalues.clip(max(EIGENVALUE_FLOOR * eigenvalues.max(), np.finfo(float).tiny)))
    return mean, (directions * scale) @ directions.T


@dataclass(eq=False)
class IVector(Transform):
    """Raw audio values -> i-vectors `(size,)`, float32 of length 1; learned on the training clips by `fit`.

    Features are MFCC (frames of 25 ms every 10 ms) with deltas and double deltas, normalised to mean 0 and standard
    deviation 1 within the clip. `MultimodalProcessor.apply` fits on the training split and keeps what was learned.

    The original has 2,048 components and size 400, for thousands of hours; the defaults suit some thousand short
    clips.

    Usage: `processors: {audio: {type: ivector, num_components: 64, size: 50}}`

    Args:
        num_components: Gaussians of the background model (UBM).
        size: of the i-vector; smaller than the number of training clips.
        iterations: of EM for the total variability matrix.
        max_frames: frames, drawn at random, that the background model is fitted on.
        seed: of that draw, of k-means and of EM's start.
        sampling_rate: clips are resampled to this rate, in Hz.
        num_coefficients: MFCC per frame; with their dynamics three times as many.
        num_mel_bins: mel filters, at least `num_coefficients`.
        min_rms: clips whose root mean square amplitude is lower count as silent and raise MediaError; 0 accepts
            silence, whose i-vector means nothing.

    Raises:
        ValueError: an option is out of range, too few clips or frames to fit on, or not fitted when called.
        MediaError: A clip cannot be read, is silent, or is shorter than one frame; the message names the file.
    """

    signal = "audio"
    learns = "state"
    reads_video = True

    num_components: int = 128
    size: int = 100
    iterations: int = 10
    max_frames: int = 100_000
    seed: int = 0
    sampling_rate: int = 16000
    num_coefficients: int = 20
    num_mel_bins: int = 30
    min_rms: float = 0.0

    def __post_init__(self) -> None:
        check_at_least_one(num_components=self.num_components, size=self.size)
        check_at_least_one(iterations=self.iterations, num_coefficients=self.num_coefficients)
        if self.max_frames < self.num_components:
            raise ValueError(
                f"Expected max_frames >= num_components={self.num_components}, found {self.max_frames}. Raise "
                "max_frames."
            )
        if self.num_mel_bins < self.num_coefficients:
            raise ValueError(
                f"Expected num_mel_bins >= num_coefficients={self.num_coefficients}, found {self.num_mel_bins}. Raise "
                "it."
            )
        check_min_rms(self.min_rms)
        self._background: BackgroundModel | None = None

    @property
    def is_fitted(self) -> bool:
        return self._background is not None

    @property
    def sizes(self) -> dict[str, int]:
        return {"output_size": self.size}

    def from_signal(self, signal: Tensor, training: bool = False) -> Tensor:
        """The i-vector of a waveform; `training` changes nothing."""
        if not self.is_fitted:
            raise ValueError("Expected an IVector that was fitted, found none. Call load_state(fit(extract(clips))).")
        return torch.from_numpy(self._vector(self._features(signal))).float()

    def extract(self, values: list[Any]) -> list[Tensor]:
        """Features of every frame, float32 `(frames, 3 * num_coefficients)`."""
        return [self._features(self.read(value)) for value in values]

    def fit(self, clips: Sequence[Tensor]) -> dict[str, Tensor]:
        """Learn from the features of the training clips.

        Args:
            clips: `extract`'s results; read three times, one after the other.

        Returns:
            what `load_state` takes, float64.

        Raises:
            ValueError: fewer clips than `size + 1`, or fewer frames than `num_components`.
        """
        if len(clips) <= self.size:
            raise ValueError(f"Expected more clips to fit on than size={self.size}, found {len(clips)}. Lower size.")
        frames = self._drawn_frames(clips)
        background = BackgroundModel.fit(frames, self.num_components, self.seed)
        statistics = [background.statistics(clip.double().numpy()) for clip in clips]
        counts, sums = (np.stack(part) for part in zip(*statistics, strict=True))
        model, _ = fit_total_variability(counts, sums, background.variances, self.size, self.iterations, self.seed)
        mean, matrix = whitening(model.posterior(counts, sums)[0])
        state = {
            "weights": background.weights,
            "means": background.means,
            "variances": background.variances,
            "loadings": model.loadings,
            "center": mean,
            "whitening": matrix,
        }
        return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in state.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take `fit`'s result.

        Raises:
            ValueError: it is of another transform, or of one with other options.
        """
        dim = 3 * self.num_coefficients
        shapes = {
            "weights": (self.num_components,),
            "means": (self.num_components, dim),
            "variances": (self.num_components, dim),
            "loadings": (self.num_components, dim, self.size),
            "center": (self.size,),
            "whitening": (self.size, self.size),
        }
        found = {name: tuple(tensor.shape) for name, tensor in state.items()}
        if found != shapes:
            raise ValueError(f"Expected a state with {shapes}, found {found}. Fit again with these options.")
        arrays = {name: tensor.double().numpy() for name, tensor in state.items()}
        self._background = BackgroundModel(arrays["weights"], arrays["means"], arrays["variances"])
        self._variability = TotalVariability(arrays["loadings"], arrays["variances"])
        self._center, self._whitening = arrays["center"], arrays["whitening"]

    def read(self, value: Any) -> Tensor:
        """The waveform of a clip (any form `read_waveform` accepts) of at least one frame."""
        waveform = read_audible_waveform(value, self.sampling_rate, self.min_rms)
        length, _ = frame_samples(self.sampling_rate)
        if len(waveform) < length:
            raise MediaError(
                f"{file_name(value) or 'audio'}: expected at least one frame of {length} samples, found "
                f"{len(waveform)}. Set a clip this short to None."
            )
        return waveform

    def _features(self, waveform: Tensor) -> Tensor:
        coefficients = mfcc(waveform, self.sampling_rate, self.num_coefficients, self.num_mel_bins)
        return normalized_over_time(with_deltas(coefficients))

    def _vector(self, features: Tensor) -> np.ndarray:
        counts, sums = self._background.statistics(features.double().numpy())
        means, _, _ = self._variability.posterior(counts[None], sums[None])
        vector = (means[0] - self._center) @ self._whitening
        return vector / (np.linalg.norm(vector, axis=-1) or 1)  # a vector of zeros stays

    def _drawn_frames(self, clips: Sequence[Tensor]) -> np.ndarray:
        """At most `max_frames` frames of all clips, float64 (frames, dim)."""
        lengths = np.array([len(clip) for clip in clips])
        total = int(lengths.sum())
        if total < self.num_components:
            raise ValueError(
                f"Expected at least num_components={self.num_components} frames to fit on, found {total}. Lower "
                "num_components."
            )
        chosen = np.zeros(total, dtype=bool)
        generator = np.random.default_rng(self.seed)
        chosen[generator.choice(total, min(total, self.max_frames), replace=False)] = True
        parts = np.split(chosen, lengths.cumsum()[:-1])
        return np.concatenate([clip.double().numpy()[part] for clip, part in zip(clips, parts, strict=True)])
