"""Making raw signals worse: to see what a model stands, and to train with.

| kind of signal | corruptions (severity: defaults) |
|---|---|
| audio | `white_noise` (snr: 20, 10, 0 dB), `babble` (snr: 10, 0, -5 dB), `telephone` |
| image, video | `gaussian_noise` (sigma: 0.1, 0.3, 0.5), `jpeg` (quality: 25, 15, 7), `blur` (fraction of the short \
side: 0.02, 0.04, 0.08) |
| text | `word_drop` (fraction: 0.1, 0.3, 0.5) |
| feature vectors | `feature_noise` (scale: 0.5, 1, 2 standard deviations in training) |

Equal numbers of two kinds are not equally severe: never average them without saying so.
"""

from __future__ import annotations

from .audio import Babble, Telephone, WhiteNoise
from .base import Corruption, Surroundings, row_generator
from .image import Blur, GaussianNoise, Jpeg
from .registry import CORRUPTIONS, build_corruption, check_corruptible, default_corruptions
from .text import WordDrop
from .vector import FeatureNoise, training_std

__all__ = [
    "CORRUPTIONS",
    "Babble",
    "Blur",
    "Corruption",
    "FeatureNoise",
    "GaussianNoise",
    "Jpeg",
    "Surroundings",
    "Telephone",
    "WhiteNoise",
    "WordDrop",
    "build_corruption",
    "check_corruptible",
    "default_corruptions",
    "row_generator",
    "training_std",
]
