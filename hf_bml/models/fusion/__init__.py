"""Fusion heads: features in, logits out; each head knows what every modality alone would predict.

Where the head is a sum of unimodal parts the split is exact (paper Eq. 2 and 6); elsewhere the other modalities'
features are set to zero (paper Sec. 4.3.7).

| name       | logits                                                         | unimodal prediction |
|------------|----------------------------------------------------------------|---------------------|
| `concat`   | `W [phi^1; ...; phi^M] + b`, or a multi-layer classifier       | exact, or zero-out  |
| `sum`      | `sum_m (W^m phi^m + b^m)`                                      | exact               |
| `bounded`  | `b + sum_m tau z^m / (||z^m|| + 1)`, `z^m = W^m phi^m`         | exact               |
| `cosine`   | `s sum_m cos(W^m, phi^m)`                                      | exact               |
| `shared`   | sum or mean of `g(phi^m)`, one classifier g for all            | exact               |
| `film`     | `W (gamma(x) * y + beta(x)) + b`                               | zero-out            |
| `gated`    | `W (sigmoid(A x) * B y) + b`                                   | zero-out            |
| `product`  | `W (prod_m A^m phi^m) + b`, low-rank bilinear                  | needs probe heads   |
| `average_logits` | mean of `W^m phi^m + b^m` over the modalities present    | exact               |
| `average_probabilities` | log of the mean of their softmax                  | exact               |

An average is what an ensemble of unimodal models predicts (`from_unimodal: models`).

A new one is a file here and a line in FUSIONS.
"""

from __future__ import annotations

from ...ground.suggestion import Registry
from .average import AverageLogitsHead, AverageProbabilitiesHead
from .base import FusionHead, drop_features, evaluation_mode, keep_only, layers, presence
from .bounded import BoundedHead, bounded_votes
from .concat import ConcatHead
from .conditioned import ConditionedHead
from .cosine import CosineHead, cosines
from .film import FiLMHead
from .gated import GatedHead
from .product import ProductHead
from .shared import SHARED_PREDICTIONS, SharedHead, entropy_weights
from .sum import SumHead

FUSIONS: Registry[type[FusionHead]] = Registry(
    "fusion",
    FusionHead,
    "hf_bml.models.FUSIONS",
    {
        "concat": ConcatHead,
        "sum": SumHead,
        "bounded": BoundedHead,
        "cosine": CosineHead,
        "shared": SharedHead,
        "film": FiLMHead,
        "gated": GatedHead,
        "product": ProductHead,
        "average_logits": AverageLogitsHead,
        "average_probabilities": AverageProbabilitiesHead,
    },
)

__all__ = [
    "FUSIONS",
    "SHARED_PREDICTIONS",
    "AverageLogitsHead",
    "AverageProbabilitiesHead",
    "BoundedHead",
    "ConcatHead",
    "ConditionedHead",
    "CosineHead",
    "FiLMHead",
    "FusionHead",
    "GatedHead",
    "ProductHead",
    "SharedHead",
    "SumHead",
    "bounded_votes",
    "cosines",
    "drop_features",
    "entropy_weights",
    "evaluation_mode",
    "keep_only",
    "layers",
    "presence",
]
