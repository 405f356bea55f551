"""What every fusion head is, and what is done with features around one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..options import HeadOptions


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


def presence(features: Mapping[str, Tensor]) -> Tensor:
    """Which modalities the samples have, bool `(modalities, batch, 1)`: those whose feature `(batch, dim)` is not zero
    in every entry, as `drop_features` leaves it; all, where a sample has none."""
    present = torch.stack([(feature != 0).any(-1, keepdim=True) for feature in features.values()])
    return present | ~present.any(0)


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
