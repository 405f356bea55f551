"""Fusion heads: features in, logits out; each head knows what every modality alone would predict.

Where the head is a sum of unimodal parts the split is exact (paper Eq. 2 and 6); elsewhere the other modalities'
features are set to zero (paper Sec. 4.3.7).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

if TYPE_CHECKING:  # the configuration imports FUSIONS
    from .configuration_multimodal import MultimodalConfig


def layers(sizes: Sequence[int], dropout: float) -> nn.Sequential:
    """Linear layers between consecutive `sizes` with ReLU between them, dropout before each."""
    modules: list[nn.Module] = []
    for index, (before, after) in enumerate(itertools.pairwise(sizes)):
        modules += [nn.ReLU()] if index else []
        modules += [nn.Dropout(dropout)] if dropout else []
        modules.append(nn.Linear(before, after))
    return nn.Sequential(*modules)


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Puts the batch normalisations and dropouts inside `module` in eval mode for a while."""
    switched = [m for m in module.modules() if m.training and isinstance(m, (_BatchNorm, _DropoutNd))]
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


class FusionHead(nn.Module):
    """Base class of heads.

    Args:
        sizes: feature size per modality, in modality order.
        config: the model's config.
    """

    def __init__(self, sizes: Mapping[str, int], config: MultimodalConfig):
        super().__init__()
        self.sizes = dict(sizes)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Per modality `(batch, dim)` to logits `(batch, num_labels)`."""
        raise NotImplementedError(f"{type(self).__name__} is abstract: override `forward`.")

    def unimodal_logits(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What each modality alone predicts, `(batch, num_labels)`: zero-out, in eval mode.

        One pass over a batch that holds one zeroed-out copy of the features per modality.
        """
        kept = [keep_only(features, modality) for modality in features]
        stacked = {name: torch.cat([features[name] for features in kept]) for name in features}
        with evaluation_mode(self):
            logits = self(stacked)
        return dict(zip(features, logits.chunk(len(kept)), strict=True))


class ConcatHead(FusionHead):
    """Concatenation and a linear or multi-layer classifier (paper Eq. 1; multi-layer: Sec. 4.3.7)."""

    def __init__(self, sizes: Mapping[str, int], config: MultimodalConfig):
        super().__init__(sizes, config)
        self.classifier = layers(
            [sum(sizes.values()), *config.head_hidden_sizes, config.num_labels], config.head_dropout
        )
        self.is_linear = not config.head_hidden_sizes
        split = config.bias_split or {}
        self.bias_split = {modality: split.get(modality, 1 / len(sizes)) for modality in sizes}

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        return self.classifier(torch.cat(list(features.values()), dim=-1))

    def unimodal_logits(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Linear head: `W^m phi^m + gamma^m b`, which sums to the joint logits for `sum gamma = 1` (Eq. 2)."""
        if not self.is_linear:
            return super().unimodal_logits(features)
        linear = self.classifier[-1]
        blocks = linear.weight.split(list(self.sizes.values()), dim=1)
        return {
            modality: nn.functional.linear(feature, weight.to(feature.dtype)) + self.bias_split[modality] * linear.bias
            for (modality, feature), weight in zip(features.items(), blocks, strict=True)
        }


class SumHead(FusionHead):
    """One classifier per modality, logits added; the split is exact, each with its own full bias."""

    def __init__(self, sizes: Mapping[str, int], config: MultimodalConfig):
        super().__init__(sizes, config)
        self.classifiers = nn.ModuleDict(
            {
                modality: layers([size, *config.head_hidden_sizes, config.num_labels], config.head_dropout)
                for modality, size in sizes.items()
            }
        )

    def _parts(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {modality: self.classifiers[modality](feature) for modality, feature in features.items()}

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        return torch.stack(list(self._parts(features).values())).sum(0)

    def unimodal_logits(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        with evaluation_mode(self):
            return self._parts(features)


FUSIONS: dict[str, type[FusionHead]] = {"concat": ConcatHead, "sum": SumHead}
