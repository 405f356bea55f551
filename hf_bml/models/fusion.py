"""Fusion heads: features in, logits out; each head knows what every modality alone would predict.

Where the head is a sum of unimodal parts the split is exact (paper Eq. 2 and 6); elsewhere the other modalities'
features are set to zero (paper Sec. 4.3.7).

| name       | logits                                                         | unimodal prediction |
|------------|----------------------------------------------------------------|---------------------|
| `concat`   | `W [phi^1; ...; phi^M] + b`, or a multi-layer classifier       | exact, or zero-out  |
| `sum`      | `sum_m (W^m phi^m + b^m)`                                      | exact               |
| `bounded`  | `b + sum_m tau z^m / (||z^m|| + 1)`, `z^m = W^m phi^m`         | exact               |
| `film`     | `W (gamma(x) * y + beta(x)) + b`                               | zero-out            |
| `gated`    | `W (sigmoid(A x) * B y) + b`                                   | zero-out            |
| `product`  | `W (prod_m A^m phi^m) + b`, low-rank bilinear                  | needs probe heads   |
| `average_logits` | mean of `W^m phi^m + b^m` over the modalities present    | exact               |
| `average_probabilities` | log of the mean of their softmax                  | exact               |

An average is what an ensemble of unimodal models predicts (`from_unimodal: models`).

FiLM and gated fusion are defined for two modalities: x conditions y. For more, x is the `conditioning` modality (by
default the first) and y the concatenation of all others.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..ground.suggestion import Registry
from ..ground.task import at_least_float32
from .options import HeadOptions


def layers(sizes: Sequence[int], dropout: float, bias: bool = True) -> nn.Sequential:
    """Linear layers between consecutive `sizes` with ReLU between them, dropout before each. Without `bias`, zeros
    give zeros."""
    modules: list[nn.Module] = []
    for index, (before, after) in enumerate(itertools.pairwise(sizes)):
        modules += [nn.ReLU()] if index else []
        modules += [nn.Dropout(dropout)] if dropout else []
        modules.append(nn.Linear(before, after, bias))
    return nn.Sequential(*modules)


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Puts `module` and everything inside it in eval mode for a while."""
    switched = [m for m in module.modules() if m.training]
    for m in switched:
        m.training = False
    try:
        yield
    finally:
        for m in switched:
            m.training = True


def keep_only(features: Mapping[str, Tensor], modality: str) -> dict[str, Tensor]:
    """The features with all but `modality` set to zero."""
    return {name: f if name == modality else torch.zeros_like(f) for name, f in features.items()}


def drop_features(features: Mapping[str, Tensor], keep_mask: Tensor) -> dict[str, Tensor]:
    """`r_i^m phi_i^m`: zeroes the feature of every modality that a sample does not keep (paper Sec. 3.2.1).

    Args:
        features: per modality `(batch, ..., dim)`.
        keep_mask: bool `(batch, modalities)`, columns in the order of `features`.
    """
    return {
        modality: torch.where(keep.view(-1, *[1] * (feature.dim() - 1)), feature, 0.0)
        for (modality, feature), keep in zip(features.items(), keep_mask.unbind(1), strict=True)
    }


class FusionHead(nn.Module):
    """Base class of heads.

    To add one, write a subclass with a `forward`. In YAML and in Python it is then known as `fusion:
    package.module:Name`; `FUSIONS["name"] = Name` gives it a short name. What a saved model names is not imported:
    register your class, in either way, before you load one.

    Args:
        sizes: feature size per modality, in modality order.
        config: the model's config.

    Attributes:
        zero_out_is_blind: whether the zero-out prediction is equal for all modalities regardless of what they learned.
        splits_exactly: whether the joint logits are the sum of `unimodal_logits`.
        joins_several: whether there must be two modalities or more.
        takes_conditioning: whether one modality conditions the others, which the config's `conditioning` chooses.
    """

    zero_out_is_blind = False
    splits_exactly = False
    joins_several: ClassVar[bool] = False
    takes_conditioning: ClassVar[bool] = False

    def __init__(self, sizes: Mapping[str, int], config: HeadOptions):
        super().__init__()
        self.sizes = dict(sizes)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Per modality `(batch, dim)` to logits `(batch, num_labels)`."""
        raise NotImplementedError(f"{type(self).__name__} is abstract: override `forward`.")

    def unimodal_logits(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What each modality alone predicts, `(batch, num_labels)`; zero-out unless the head has an exact split."""
        return self.zero_out_logits(features)

    def zero_out_logits(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The prediction `(batch, num_labels)` with the other modalities' features set to zero, in eval mode.

        One pass over a batch that holds one zeroed-out copy of the features per modality.
        """
        kept = [keep_only(features, modality) for modality in features]
        stacked = {name: torch.cat([features[name] for features in kept]) for name in features}
        with evaluation_mode(self):
            logits = self(stacked)
        return dict(zip(features, logits.chunk(len(kept)), strict=True))


class ConcatHead(FusionHead):
    """Concatenation and a linear or multi-layer classifier (paper Eq. 1; multi-layer: Sec. 4.3.7)."""

    def __init__(self, sizes: Mapping[str, int], config: HeadOptions):
        super().__init__(sizes, config)
        self.classifier = layers(
            [sum(sizes.values()), *config.head_hidden_sizes, config.num_labels], config.head_dropout
        )
        self.splits_exactly = not config.head_hidden_sizes
        split = config.bias_split or {}
        self.bias_split = {modality: split.get(modality, 1 / len(sizes)) for modality in sizes}

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        return self.classifier(torch.cat(list(features.values()), dim=-1))

    def unimodal_logits(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Linear head: `W^m phi^m + gamma^m b`, which sums to the joint logits for `sum gamma = 1` (Eq. 2)."""
        if not self.splits_exactly:
            return self.zero_out_logits(features)
        linear = self.classifier[-1]
        blocks = linear.weight.split(list(self.sizes.values()), dim=1)
        return {
            modality: nn.functional.linear(feature, weight, self.bias_split[modality] * linear.bias)
            for (modality, feature), weight in zip(features.items(), blocks, strict=True)
        }


class SumHead(FusionHead):
    """One classifier per modality, logits added; the split is exact, each with its own full bias."""

    splits_exactly = True
    parts_have_bias: ClassVar[bool] = True

    def __init__(self, sizes: Mapping[str, int], config: HeadOptions):
        super().__init__(sizes, config)
        widths = [*config.head_hidden_sizes, config.num_labels]
        self.classifiers = nn.ModuleDict(
            {m: layers([size, *widths], config.head_dropout, self.parts_have_bias) for m, size in sizes.items()}
        )

    def _parts(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {modality: self.classifiers[modality](feature) for modality, feature in features.items()}

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        return torch.stack(list(self._parts(features).values())).sum(0)

    def unimodal_logits(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        with evaluation_mode(self):
            return self._parts(features)


def bounded_votes(logits: Tensor, bound: float) -> Tensor:
    """`tau z / (||z||_2 + 1)` over the last axis: the direction of `z`, with a length in [0, tau).

    Args:
        logits: z, `(..., num_labels)`.
        bound: tau, > 0.

    Returns:
        as `logits`, in float32 or better, under autocast too; zeros for zeros, where the gradient is tau times one.

    Example:
        >>> import torch
        >>> bounded_votes(torch.tensor([3.0, 4.0]), 6.0)
        tensor([3., 4.])
    """
    with torch.autocast(logits.device.type, enabled=False):
        z = at_least_float32(logits)
        return bound * z / (torch.linalg.vector_norm(z, dim=-1, keepdim=True) + 1)


class BoundedHead(SumHead):
    """Adds one vote per modality, none of which can shout: `bounded_votes` of a classifier without bias, and one bias.

    However large a noisy feature gets, it moves the joint logits by less than `logit_bound`; a modality that is absent
    or dropped casts no vote. Hidden layers have no bias either. The nearest published head is MMCosine (Xu et al.
    2023), which normalises features and weights.
    """

    parts_have_bias = False

    def __init__(self, sizes: Mapping[str, int], config: HeadOptions):
        super().__init__(sizes, config)
        self.bound = config.logit_bound
        self.bias = nn.Parameter(torch.zeros(config.num_labels))

    def _parts(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Each modality's vote and its share of the bias, `b / M`."""
        share = self.bias / len(self.sizes)
        return {m: bounded_votes(z, self.bound) + share for m, z in super()._parts(features).items()}


class ConditionedHead(FusionHead):
    """Base of the heads in which one modality x conditions the others, y (their concatenation)."""

    joins_several = takes_conditioning = True

    def __init__(self, sizes: Mapping[str, int], config: HeadOptions):
        super().__init__(sizes, config)
        self.conditioning = config.conditioning or next(iter(sizes))
        self.condition_size = sizes[self.conditioning]
        self.content_size = sum(size for modality, size in sizes.items() if modality != self.conditioning)

    def split(self, features: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """x `(batch, condition_size)` and y `(batch, content_size)`."""
        others = [feature for modality, feature in features.items() if modality != self.conditioning]
        return features[self.conditioning], torch.cat(others, dim=-1)


class FiLMHead(ConditionedHead):
    """Feature-wise linear modulation (Perez et al. 2018) as in the paper's Table 2, without a residual `1 + gamma`.

    The biases start at zero, so before training y alone predicts a constant.
    """

    def __init__(self, sizes: Mapping[str, int], config: HeadOptions):
        super().__init__(sizes, config)
        self.film = nn.Linear(self.condition_size, 2 * self.content_size)
        self.classifier = layers(
            [self.content_size, *config.head_hidden_sizes, config.num_labels], config.head_dropout
        )

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        condition, content = self.split(features)
        gamma, beta = self.film(condition).chunk(2, dim=-1)
        return self.classifier(gamma * content + beta)


class GatedHead(ConditionedHead):
    """Gated fusion (Kiela et al. 2018): x gates y; both are projected to the width of the largest feature.

    Without x the gate is sigmoid(bias), not shut. The biases start at zero, so before training x alone predicts a
    constant.
    """

    def __init__(self, sizes: Mapping[str, int], config: HeadOptions):
        super().__init__(sizes, config)
        width = max(sizes.values())
        self.gate = nn.Linear(self.condition_size, width)
        self.content = nn.Linear(self.content_size, width)
        self.classifier = layers([width, *config.head_hidden_sizes, config.num_labels], config.head_dropout)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        condition, content = self.split(features)
        return self.classifier(torch.sigmoid(self.gate(condition)) * self.content(content))


class ProductHead(FusionHead):
    """Purely multiplicative fusion: bias-free projections to the width of the largest feature, multiplied.

    One missing factor leaves the classifier of zero, a constant: zero-out tells nothing, so only probe heads can score
    the modalities, and a sample that lacks a modality, or has it dropped, teaches the encoders nothing.
    """

    zero_out_is_blind = joins_several = True

    def __init__(self, sizes: Mapping[str, int], config: HeadOptions):
        super().__init__(sizes, config)
        width = max(sizes.values())
        self.factors = nn.ModuleDict(
            {modality: nn.Linear(size, width, bias=False) for modality, size in sizes.items()}
        )
        self.classifier = layers([width, *config.head_hidden_sizes, config.num_labels], config.head_dropout)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        factors = [self.factors[modality](feature) for modality, feature in features.items()]
        return self.classifier(torch.stack(factors).prod(0))


class AverageLogitsHead(SumHead):
    """The mean of the classifiers' logits over the modalities that a sample has.

    A modality whose feature is zero in every entry is absent, as `drop_features` leaves it; without any, all count.
    """

    splits_exactly = False  # the joint logits are a mean, not a sum

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        present = torch.stack([(feature != 0).any(-1) for feature in features.values()])  # (modalities, batch)
        weights = torch.where(present.any(0), present, True).to(next(iter(features.values())).dtype)
        weights = (weights / weights.sum(0)).unsqueeze(-1)
        return self._mean(torch.stack(list(self._parts(features).values())), weights)

    def _mean(self, parts: Tensor, weights: Tensor) -> Tensor:
        """Of `(modalities, batch, num_labels)`, weighted by `(modalities, batch, 1)`."""
        return (weights * parts).sum(0)


class AverageProbabilitiesHead(AverageLogitsHead):
    """The logarithm of the mean of the classifiers' probabilities over the modalities that a sample has."""

    def _parts(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: logits.log_softmax(-1) for name, logits in super()._parts(features).items()}

    def _mean(self, parts: Tensor, weights: Tensor) -> Tensor:
        return (parts + weights.log()).logsumexp(0)


FUSIONS: Registry[type[FusionHead]] = Registry(
    "fusion",
    FusionHead,
    "hf_bml.models.FUSIONS",
    {
        "concat": ConcatHead,
        "sum": SumHead,
        "bounded": BoundedHead,
        "film": FiLMHead,
        "gated": GatedHead,
        "product": ProductHead,
        "average_logits": AverageLogitsHead,
        "average_probabilities": AverageProbabilitiesHead,
    },
)
