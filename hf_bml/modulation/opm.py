"""OPM, on-the-fly prediction modulation: drop the dominant modality's feature in the forward pass.

The more discriminative a modality was at the last optimizer step, the more often its feature is zeroed, sample by
sample, so that the others must carry the prediction and learn (paper Sec. 3.2.1, Eq. 6-8, Algorithm 1, Fig. 2).

Usage:      `modulations: {opm: {q_base: 0.5, lam: 0.5}}`
Values:     q_base 0.5 and lam 0.5 are the paper's for Kinetics-Sounds; search q_base in 0.3...0.8 and lam in
            0.25...1 on a validation split.
Relations:  shares the ratios with OGM, which acts on the gradients; both can be on. ModDrop drops every modality
            with a fixed probability.

Preset `released` follows the authors' code instead: the probability comes from the current micro-batch (of this
process), the drop is executed for a whole batch with probability 0.7, all features are rescaled, and nothing
happens in the first six epochs. Their code also lets a gradient flow through the probability by mistake; here it
is detached in both presets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from .base import BalanceState, DiscrepancyConfig, Modulation, check_choice, check_range
from .discrepancy import MEASURES, TRANSFORMS, discriminative_scores, tanh_shifted


@dataclass
class OPMConfig(DiscrepancyConfig):
    """Options of OPM.

    Args:
        q_base: base drop probability, in (0, 1) (paper Eq. 8).
        lam: how strongly the probability follows the ratio, > 0 (lambda of paper Eq. 8).
        timing: `"previous"`: the last optimizer step's ratios, summed over micro-batches and ranks (paper);
            `"current"`: those of the current micro-batch on this process (released code).
        rescale: multiply all features by `1 / (1 - theta)`, theta being the dimension-weighted mean probability.
        p_exe: probability in (0, 1] that a micro-batch is modulated at all.
    """

    q_base: float = field(default=0.5, metadata={"help": "Base drop probability, in (0, 1)."})
    lam: float = field(default=0.5, metadata={"help": "How strongly the drop probability follows the ratio, > 0."})
    timing: str = field(default="previous", metadata={"help": "Whose ratios: the previous step's, or current."})
    rescale: bool = field(default=False, metadata={"help": "Rescale all features by 1 / (1 - theta)."})
    p_exe: float = field(default=1.0, metadata={"help": "Probability that a micro-batch is modulated, in (0, 1]."})

    RELEASED: ClassVar[dict[str, Any]] = {"timing": "current", "rescale": True, "p_exe": 0.7, "start": 6}

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("q_base", self.q_base, low=0, high=1, low_open=True, high_open=True)
        check_range("lam", self.lam, low=0, low_open=True)
        check_range("p_exe", self.p_exe, low=0, high=1, low_open=True)
        check_choice("timing", self.timing, ("previous", "current"))


def drop_probabilities(
    discrepancy: Tensor, q_base: float, lam: float, z: Callable[[Tensor], Tensor] = tanh_shifted
) -> Tensor:
    """Drop probability `q^m = min(1, q_base (1 + lam z(rho^m)))` where `rho^m > 1`, else 0 (paper Eq. 8).

    Args:
        discrepancy: `(modalities,)`, ratios or differences.
        q_base: in (0, 1).
        lam: > 0.
        z: monotone map of values above 1 into (0, 1).

    Returns:
        `(modalities,)` in [0, 1]; 0 for a discrepancy that is not a number.

    Example:
        >>> import torch
        >>> drop_probabilities(torch.tensor([1.5455, 0.6471]), q_base=0.5, lam=0.5)
        tensor([0.6243, 0.0000])
    """
    probabilities = (q_base * (1 + lam * z(discrepancy))).clamp(0, 1)
    return torch.where(discrepancy > 1, probabilities, 0.0)


def keep_masks(probabilities: Tensor, uniform: Tensor, modality_mask: Tensor | None = None) -> Tensor:
    """Which modality each sample keeps: `r_i^m ~ Bernoulli(1 - q^m)`, independent per sample and modality.

    A sample that would lose every modality it has keeps all of them.

    Args:
        probabilities: drop probabilities `(modalities,)`.
        uniform: draws from [0, 1), `(batch, modalities)`.
        modality_mask: optional bool `(batch, modalities)`, the modalities each sample has.

    Returns:
        bool `(batch, modalities)`, a subset of `modality_mask`.
    """
    present = torch.ones_like(uniform, dtype=torch.bool) if modality_mask is None else modality_mask.bool()
    keep = (uniform >= probabilities) & present
    return torch.where(keep.any(1, keepdim=True), keep, present)


def drop_features(features: Mapping[str, Tensor], keep_mask: Tensor) -> dict[str, Tensor]:
    """`r_i^m phi_i^m`: zeroes the feature of every modality that a sample does not keep.

    Args:
        features: per modality `(batch, ..., dim)`.
        keep_mask: bool `(batch, modalities)`, columns in the order of `features`.
    """
    return {
        modality: feature * keep.to(feature.dtype).view(-1, *[1] * (feature.dim() - 1))
        for (modality, feature), keep in zip(features.items(), keep_mask.unbind(1), strict=True)
    }


def mean_drop_probability(probabilities: Tensor, sizes: Sequence[int]) -> Tensor:
    """`theta = sum_m D_m q^m / sum_m D_m`, a 0-d tensor: the expected dropped share of the fused feature."""
    weights = probabilities.new_tensor([float(size) for size in sizes])
    return (weights * probabilities).sum() / sum(sizes)


class OPM(Modulation):
    """Drops the feature of the dominant modality with a probability that follows the discrepancy (paper Eq. 8).

    Logs `opm/drop_probability_<m>` (mean of the steps' q) and `opm/drop_fraction_<m>` (share of the
    main process's samples really dropped).
    """

    name = "opm"
    config_class = OPMConfig
    config: OPMConfig

    def __init__(self, config: OPMConfig | None = None, **options: Any):
        super().__init__(config, **options)
        self._state: BalanceState | None = None
        self._generator: torch.Generator | None = None

    def begin_step(self, state: BalanceState) -> None:
        self._state, self._generator = state, None

    @torch.compiler.disable
    def modulate_features(
        self,
        features: dict[str, Tensor],
        unimodal_logits: dict[str, Tensor],
        labels: Tensor | None,
        modality_mask: Tensor | None = None,
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        if len(features) == 1:
            return features, None
        with torch.no_grad():
            discrepancy = self._discrepancy(unimodal_logits, labels, modality_mask)
            config = self.config
            feature = next(iter(features.values()))
            probabilities = drop_probabilities(discrepancy, config.q_base, config.lam, TRANSFORMS[config.transform])
            if self._generator is None:
                self._generator = self.seeded_generator(
                    feature.device, self._state.seed, self._state.step, self._state.rank
                )
            uniform = torch.rand(len(feature), len(features), device=feature.device, generator=self._generator)
            executed = torch.ones((), device=feature.device)
            if config.p_exe < 1:
                gate = torch.rand((), device=feature.device, generator=self._generator)
                executed = (gate < config.p_exe).to(probabilities.dtype)
            keep_mask = keep_masks(probabilities * executed, uniform, modality_mask)
            dropped = ~keep_mask if modality_mask is None else modality_mask & ~keep_mask
            self.means.add({"opm/drop_probability": probabilities, "opm/drop_fraction": dropped.float().mean(0)})
        modulated = drop_features(features, keep_mask)
        if config.rescale:
            theta = mean_drop_probability(probabilities, [f.shape[-1] for f in features.values()])
            factor = 1 / (1 - theta * executed)
            modulated = {modality: feature * factor.to(feature.dtype) for modality, feature in modulated.items()}
        return modulated, keep_mask

    def _discrepancy(
        self, unimodal_logits: dict[str, Tensor], labels: Tensor | None, modality_mask: Tensor | None
    ) -> Tensor:
        """What drives this micro-batch, `(modalities,)`; zeros before the first step (q_0 = 0)."""
        if self.config.timing == "previous":
            if self._state.ratios is None:
                return torch.zeros(len(unimodal_logits), device=next(iter(unimodal_logits.values())).device)
            return self.config.discrepancy(self._state)
        if labels is None:
            raise ValueError("OPM with timing='current' needs `labels` in the training batch.")
        scores = discriminative_scores(unimodal_logits, labels, modality_mask)
        measure = MEASURES[self.config.measure]
        if modality_mask is None:
            return measure(scores)
        count = modality_mask.sum(0)
        return measure(scores / count.clamp_min(1) * count.amax(), count > 0)
