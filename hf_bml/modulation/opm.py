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

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from .base import Modulation, Title
from .config import DiscrepancyConfig, option
from .discrepancy import TRANSFORMS, tanh_shifted
from .step import MicroBatch, Needs, Step


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

    q_base: float = option(0.5, "Base drop probability, in (0, 1).", "(0, 1)")
    lam: float = option(0.5, "How strongly the drop probability follows the ratio, > 0.", "(0, inf]")
    timing: str = option("previous", "Whose ratios: the previous step's, or current.", ("previous", "current"))
    rescale: bool = option(False, "Rescale all features by 1 / (1 - theta).")
    p_exe: float = option(1.0, "Probability that a micro-batch is modulated, in (0, 1].", "(0, 1]")

    RELEASED: ClassVar[dict[str, Any]] = {"timing": "current", "rescale": True, "p_exe": 0.7, "start": 6}


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


def mean_drop_probability(probabilities: Tensor, sizes: Sequence[int]) -> Tensor:
    """`theta = sum_m D_m q^m / sum_m D_m`, a 0-d tensor: the expected dropped share of the fused feature."""
    weights = probabilities.new_tensor([float(size) for size in sizes])
    return (weights * probabilities).sum() / sum(sizes)


class OPM(Modulation):
    """Drops the feature of the dominant modality with a probability that follows the discrepancy (paper Eq. 8).

    Logs `opm/drop_probability_<m>` (mean of the micro-batches' q) and `opm/drop_fraction_<m>` (share of the
    main process's samples really dropped).
    """

    name = "opm"
    config_class = OPMConfig
    config: OPMConfig
    phase = "drop"
    compares_modalities = True
    titles: ClassVar = {
        "drop_probability": Title("drop probability", 0, 1),
        "drop_fraction": Title("dropped share", 0, 1),
    }

    @property
    def accumulation(self) -> str:
        by_step = self.config.timing == "previous" and self.config.p_exe == 1
        return "exact" if by_step else "per_micro_batch"

    def needs(self, modalities: Sequence[str]) -> Needs:
        return Needs(current_logits=self.config.timing == "current")

    @torch.no_grad()
    def keep_modalities(self, batch: MicroBatch, keep_mask: Tensor | None, step: Step) -> Tensor | None:
        if len(step.modalities) == 1:
            return keep_mask
        config, device = self.config, batch.labels.device
        discrepancy = self._discrepancy(batch, step)
        probabilities = drop_probabilities(discrepancy, config.q_base, config.lam, TRANSFORMS[config.transform])
        generator = step.generator(self.name, device)
        uniform = torch.rand(len(batch.labels), len(probabilities), device=device, generator=generator)
        executed = probabilities
        if config.p_exe < 1:
            gate = torch.rand((), device=device, generator=generator)
            executed = probabilities * (gate < config.p_exe)
        batch.scratch[self.name] = executed
        kept = keep_masks(executed, uniform, keep_mask)
        dropped = ~kept if keep_mask is None else keep_mask & ~kept
        self.means.add({"opm/drop_probability": probabilities, "opm/drop_fraction": dropped.float().mean(0)})
        return kept

    def modulate_features(
        self, features: dict[str, Tensor], batch: MicroBatch, keep_mask: Tensor | None, step: Step
    ) -> dict[str, Tensor]:
        if not self.config.rescale or len(features) == 1:
            return features
        theta = mean_drop_probability(batch.scratch[self.name], [feature.shape[-1] for feature in features.values()])
        return {modality: feature * (1 / (1 - theta)).to(feature.dtype) for modality, feature in features.items()}

    def _discrepancy(self, batch: MicroBatch, step: Step) -> Tensor:
        """What drives this micro-batch, `(modalities,)`; zeros before the first step (q_0 = 0)."""
        if self.config.timing == "current":
            return self.config.current_discrepancy(batch)
        if step.ratios is None:
            return torch.zeros(len(step.modalities), device=batch.labels.device)
        return self.config.discrepancy(step)
