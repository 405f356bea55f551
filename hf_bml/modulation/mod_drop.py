"""ModDrop: zero each modality's feature with a fixed probability, sample by sample (Neverova et al. 2016).

The control that any claim for OPM must beat (paper Sec. 4.3.4, Table 6): the same drop, blind to the discrepancy. The
original zeroes inputs and first trains the modalities apart; the paper, and this, only drops.

Usage:      `modulations: {mod_drop: {p: 0.2}}`, or `{p: {audio: 0.5}}` for chosen modalities
Values:     the paper gives none; search p in 0.1...0.8 on a validation split.
Relations:  OPM drops the dominant modality only, as often as the discrepancy asks for. With both, a sample may lose
            modalities to either; never the last one that it has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from ..ground.suggestion import did_you_mean
from .base import Modulation, Title
from .config import ModulationConfig, check_range, option
from .step import MicroBatch, Step


@dataclass
class ModDropConfig(ModulationConfig):
    """Options of ModDrop.

    Args:
        p: drop probability in [0, 1], of all modalities or by modality (0 for those not named).
        allow_empty: whether a sample may lose all modalities.
        if_all_dropped: what happens otherwise to a sample that would lose all of them: `"keep_one"`, drawn uniformly,
            or `"keep_all"`. With two modalities and p = 0.5, half of the samples keep both then, instead of a quarter.
    """

    p: float | dict[str, float] = field(
        default=0.2, metadata={"help": "Drop probability in [0, 1], of all modalities or as a mapping by modality."}
    )
    allow_empty: bool = option(False, "Whether a sample may lose all modalities.")
    if_all_dropped: str = option(
        "keep_one",
        "What a sample keeps that would lose all modalities: keep_one, drawn, or keep_all.",
        ("keep_one", "keep_all"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in self.p.items() if isinstance(self.p, Mapping) else [("p", self.p)]:
            check_range("p" if name == "p" else f"p of {name!r}", value, "[0, 1]")
        if self.allow_empty and self.if_all_dropped == "keep_all":
            raise ValueError("allow_empty: true and if_all_dropped: keep_all exclude each other. Leave one out.")


def moddrop_masks(
    probabilities: Tensor,
    uniform: Tensor,
    modality_mask: Tensor | None = None,
    allow_empty: bool = False,
    keep_all: bool = False,
) -> Tensor:
    """Which modality each sample keeps: `r_i^m ~ Bernoulli(1 - p^m)`, independent per sample and modality.

    A sample that would lose every modality it has keeps the one whose draw came nearest to being kept. Among equal
    modalities each is equally likely to be that one.

    Args:
        probabilities: `(modalities,)` in [0, 1].
        uniform: draws from [0, 1), `(batch, modalities)`.
        modality_mask: optional bool `(batch, modalities)`, the modalities each sample has.
        allow_empty: leave such samples without any modality.
        keep_all: let them keep every modality they have.

    Returns:
        bool `(batch, modalities)`, a subset of `modality_mask`.

    Example:
        >>> import torch
        >>> moddrop_masks(torch.tensor([0.5, 0.5]), torch.tensor([[0.6, 0.2], [0.3, 0.4]]))
        tensor([[ True, False],
                [False,  True]])
    """
    present = torch.ones_like(uniform, dtype=torch.bool) if modality_mask is None else modality_mask.bool()
    keep = (uniform >= probabilities) & present
    if allow_empty:
        return keep
    if keep_all:
        return torch.where(keep.any(1, keepdim=True), keep, present)
    nearness = torch.where(present, uniform / probabilities, -1.0)  # uniform on [0, 1) in a row that is all dropped
    nearest = torch.zeros_like(keep).scatter(1, nearness.argmax(1, keepdim=True), True) & present
    return torch.where(keep.any(1, keepdim=True), keep, nearest)


class ModDrop(Modulation):
    """Drops every modality's feature with a fixed probability.

    Logs `mod_drop/drop_fraction_<m>` (share of the main process's samples really dropped).
    """

    name = "mod_drop"
    config_class = ModDropConfig
    config: ModDropConfig
    phase = "drop"
    titles: ClassVar = {"drop_fraction": Title("dropped share", 0, 1)}

    @property
    def compares_modalities(self) -> bool:
        return not self.config.allow_empty

    def bind(self, modalities: Sequence[str]) -> None:
        super().bind(modalities)
        if isinstance(self.config.p, Mapping):
            for name in self.config.p:
                if name not in modalities:
                    hint = did_you_mean(name, modalities)
                    raise ValueError(f"mod_drop: p names {name!r}.{hint} The model has {list(modalities)}.")

    def _probabilities(self, device: torch.device) -> Tensor:
        p = self.config.p
        if not isinstance(p, Mapping):
            return torch.full((len(self.means.modalities),), float(p), device=device)
        return torch.tensor([float(p.get(name, 0)) for name in self.means.modalities], device=device)

    def keep_modalities(self, batch: MicroBatch, keep_mask: Tensor | None, step: Step) -> Tensor | None:
        device = batch.labels.device
        probabilities = self._probabilities(device)
        shape = len(batch.labels), len(probabilities)
        uniform = torch.rand(shape, device=device, generator=step.generator(self.name, device))
        keep_all = self.config.if_all_dropped == "keep_all"
        kept = moddrop_masks(probabilities, uniform, keep_mask, self.config.allow_empty, keep_all)
        dropped = ~kept if keep_mask is None else keep_mask & ~kept
        self.means.add({"mod_drop/drop_fraction": dropped.float().mean(0)})
        return kept
