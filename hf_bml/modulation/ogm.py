"""OGM, on-the-fly gradient modulation: scale down the dominant modality's encoder gradient in the backward pass.

Paper Sec. 3.2.2, Eq. 9-17, Algorithm 2, Fig. 3. The paper's "OGM" includes the Gaussian noise that gives back the
gradient noise lost by scaling (called GE, generalisation enhancement); here that is `noise: entry_std`.

Usage:      `modulations: {ogm: {alpha: 0.8, noise: entry_std}}`
Values:     alpha 0.8 on CREMA-D and Kinetics-Sounds, 0.1 on VGGSound; search 0.1...1 on a validation split.
Relations:  shares the ratios with OPM, which acts on the features. Adam-family optimizers divide a constant scale
            away, so use SGD with momentum (the trainer warns). `ogm_star` raises the weaker modality instead.

With OPM or ModDrop, `rescore_after_drop` follows the discrepancy that is left after their drops (a question that paper
Sec. 4.3.9 leaves open): where a modality was dropped it predicts nothing, so its score is 0, and S^m sums over the
samples that kept it. What was held back in the forward pass is then not held back a second time; after many drops the
weaker modality may come out as the dominant one.

Preset `released` follows the authors' code: `1 - tanh(alpha rho)`, convolution weights only, not in the first six
epochs and not after epoch 60. At an exact tie of the scores (which their code treats as dominance of the second
modality) nothing is scaled in either preset.

Preset `mlb` slows the leading modality down and speeds the others up, `coefficient: two_sided`, after MLB (Kontras et
al. 2024, BMVC), which trains multi-loss beside it: `modulations: {multi_loss: {}, ogm: {preset: mlb}}`. With the
others' mean score over its own, `x^m = mean_j S^j / S^m` (for more than two modalities our reading),

    k^m = 1 + tanh(alpha (x^m - 1)) where x^m <= 1,   else 1 + (beta_max - 1) tanh(alpha (x^m - 1))

alpha is 0.8 in the authors' configuration for CREMA-D, and with the default `beta_max: 2` both sides are the same
`1 + tanh`, as in their code unless it is told otherwise. Here it scales the encoders; MLB scales each modality's own
classifier, too.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from .base import Modulation, Title
from .config import DiscrepancyConfig, option
from .discrepancy import TRANSFORMS, comparable_scores, inverse_ratios, score_totals, tanh_shifted
from .step import Gradients, MicroBatch, Needs, Step, seeded_generator

MINIMUM_DIMENSIONS = {"all": 0, "matrix": 2, "conv": 4}


@dataclass
class OGMConfig(DiscrepancyConfig):
    """Options of OGM.

    Args:
        alpha: strength of the scaling, >= 0 (paper Eq. 11). 0 leaves the gradients as they are.
        noise: `"none"`, or `"entry_std"`: add zero-mean Gaussian noise with the standard deviation of the entries
            of each parameter's gradient before scaling, for every modality (Algorithm 2; OGM-GE).
        coefficient: `"paper"`: `1 - alpha tanh(rho - 1)`; `"released"`: `1 - tanh(alpha rho)`; `"two_sided"`: that of
            MLB, below 1 for a modality that is ahead and above 1 for one that is behind.
        beta_max: the largest coefficient of `"two_sided"`, at least 1; gradient clipping comes after it.
        parameters: which encoder parameters: `"all"` (paper), `"matrix"` (two or more dimensions) or `"conv"`
            (four or more, convolutions; released code).
        placement: `"gradients"`: scale `.grad` once per optimizer step; `"graph"`: scale the gradient where it enters
            the encoder, by the ratios of the current micro-batch of all ranks. The two are equal without gradient
            accumulation. `"graph"` is for DeepSpeed and FSDP1; it takes no noise, all parameters, and late fusion.
        rescore_after_drop: sum the scores over the samples that kept a modality, after OPM's or ModDrop's drops.
    """

    alpha: float = option(0.8, "Strength of the gradient scaling, >= 0.", "[0, inf)")
    noise: str = option("none", "Gradient noise: none or entry_std (OGM-GE).", ("none", "entry_std"))
    coefficient: str = option(
        "paper", "Form of the coefficient: paper, released or two_sided.", ("paper", "released", "two_sided")
    )
    beta_max: float = option(2.0, "Largest two_sided coefficient, at least 1.", "[1, inf)")
    parameters: str = option("all", "Encoder parameters to modulate: all, matrix or conv.", MINIMUM_DIMENSIONS)
    placement: str = option(
        "gradients", "Where to scale: gradients, or graph (DeepSpeed, FSDP1).", ("gradients", "graph")
    )
    rescore_after_drop: bool = option(False, "Score only the samples that kept a modality after other methods' drops.")

    RELEASED: ClassVar[dict[str, Any]] = {"coefficient": "released", "parameters": "conv", "start": 6, "end": 61}
    FURTHER_PRESETS: ClassVar[dict[str, dict[str, Any]]] = {"mlb": {"coefficient": "two_sided"}}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.coefficient == "released" and self.transform != "tanh":
            raise ValueError(
                "coefficient 'released' is 1 - tanh(alpha rho) and takes no other transform, found "
                f"{self.transform!r}. Leave transform out, or use coefficient: paper."
            )
        if self.coefficient == "two_sided" and (self.measure, self.transform, self.threshold) != ("ratio", "tanh", 1):
            raise ValueError(
                "coefficient 'two_sided' is a tanh of the ratio of the scores, on both sides of 1, found measure="
                f"{self.measure!r}, transform={self.transform!r} and threshold={self.threshold}. Leave them out."
            )
        if self.placement == "graph" and (self.noise != "none" or self.parameters != "all"):
            raise ValueError(
                "placement 'graph' scales the gradient that enters an encoder, so it takes noise: none and "
                f"parameters: all, found noise={self.noise!r} and parameters={self.parameters!r}. Use placement: "
                "gradients for these."
            )

    def measured(self, scores: Tensor, observed: Tensor | None) -> Tensor:
        """What the coefficient follows, `(modalities,)`: the dominance, or how far a modality is behind."""
        if self.coefficient == "two_sided":
            return inverse_ratios(scores, observed)
        return super().measured(scores, observed)

    def discrepancy(self, step: Step) -> Tensor:
        """The same of a step, which must hold scores."""
        if self.coefficient == "two_sided":
            return self.measured(step.scores, step.observed)
        return super().discrepancy(step)


def gradient_coefficients(discrepancy: Tensor, alpha: float, z: Callable[[Tensor], Tensor] = tanh_shifted) -> Tensor:
    """Coefficient `k^m = max(0, 1 - alpha z(rho^m))` where `rho^m > 1`, else 1 (paper Eq. 11).

    Args:
        discrepancy: `(modalities,)`, ratios or differences.
        alpha: >= 0.
        z: monotone map of values above 1 into (0, 1).

    Returns:
        `(modalities,)` in [0, 1]; 1 for a discrepancy that is not a number.

    Example:
        >>> import torch
        >>> gradient_coefficients(torch.tensor([1.5455, 0.6471]), alpha=0.8)
        tensor([0.6023, 1.0000])
    """
    return torch.where(discrepancy > 1, (1 - alpha * z(discrepancy)).clamp_min(0), 1.0)


def released_gradient_coefficients(discrepancy: Tensor, alpha: float) -> Tensor:
    """The authors' code: `1 - tanh(alpha rho^m)` where `rho^m > 1`, else 1; it jumps at a ratio of 1.

    Args and result as in `gradient_coefficients`.
    """
    return torch.where(discrepancy > 1, 1 - torch.tanh(alpha * discrepancy), 1.0)


def two_sided_coefficients(behind: Tensor, alpha: float, beta_max: float) -> Tensor:
    """MLB: `1 + tanh(alpha (x^m - 1))` where `x^m <= 1`, else `1 + (beta_max - 1) tanh(alpha (x^m - 1))`.

    Args:
        behind: x, `(modalities,)`, the others' mean score over the modality's own.
        alpha: >= 0.
        beta_max: >= 1.

    Returns:
        `(modalities,)` in (0, beta_max]; 1 for a value that is not a number.

    Example:
        >>> import torch
        >>> two_sided_coefficients(torch.tensor([0.6471, 1.5455]), alpha=0.8, beta_max=2.0)
        tensor([0.7249, 1.4107])
    """
    step = torch.tanh(alpha * (behind - 1))
    return torch.where(behind.isnan(), 1.0, 1 + torch.where(behind > 1, (beta_max - 1) * step, step))


def post_drop_totals(batch: MicroBatch, keep_mask: Tensor | None) -> Tensor:
    """`(2, modalities)`: the true-class probability summed over the samples that kept a modality, and how many samples
    have it."""
    kept = score_totals(batch.unimodal_logits, batch.labels, keep_mask, batch.task)
    present = score_totals(batch.unimodal_logits, batch.labels, batch.modality_mask, batch.task)
    return torch.stack([kept[0], present[2]])


def gradient_entry_std(gradient: Tensor) -> Tensor:
    """Unbiased standard deviation of a gradient's entries, a 0-d tensor; 0 for a single entry.

    Of a sharded gradient it is that of the whole.
    """
    count = gradient.numel()  # of all shards
    if count < 2:
        return torch.zeros((), dtype=gradient.dtype, device=gradient.device)
    if not isinstance(gradient, DTensor):
        return gradient.std()
    deviation = gradient - gradient.sum() / count  # DTensor.std() would gather the whole gradient on every process
    return (deviation.square().sum() / (count - 1)).sqrt().full_tensor()


class GradientScale(torch.autograd.Function):
    """Identity whose gradient is multiplied by a 0-d coefficient."""

    @staticmethod
    def forward(context: Any, feature: Tensor, coefficient: Tensor) -> Tensor:
        context.save_for_backward(coefficient)
        return feature.view_as(feature)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (coefficient,) = context.saved_tensors
        return gradient * coefficient.to(gradient.dtype), None


def scale_gradients(gradients: Sequence[Tensor], coefficient: Tensor) -> None:
    """Multiplies every gradient by the 0-d `coefficient` in place, without a host sync (paper Eq. 12)."""
    torch._foreach_mul_(list(gradients), coefficient)


def enhance_gradient(gradient: Tensor, coefficient: Tensor, std: Tensor, standard_noise: Tensor) -> None:
    """`k g + h` in place with `h = std * standard_noise` (paper Eq. 16; OGM-GE).

    Args:
        gradient: g, any shape.
        coefficient: k, 0-d.
        std: 0-d, of the gradient's entries before scaling.
        standard_noise: standard normal draws, shaped as `gradient`.
    """
    gradient.mul_(coefficient).addcmul_(standard_noise, std)


def enhance_gradients(gradients: Sequence[Tensor], coefficient: Tensor, generator: torch.Generator) -> None:
    """`enhance_gradient` with `h ~ N(0, std(g)^2)` for each parameter.

    A gradient with an infinite entry stays non-finite, so a gradient scaler still sees the overflow and skips the
    step. Memory: one parameter's noise at a time.
    """
    for gradient in gradients:
        std = gradient_entry_std(gradient)
        local = gradient.to_local() if isinstance(gradient, DTensor) else gradient
        enhance_gradient(local, coefficient, std, torch.empty_like(local).normal_(generator=generator))


def shard_coordinates(gradient: Tensor) -> list[int]:
    """Where in a sharded gradient this process's part lies; empty for an ordinary tensor.

    Replicas of a part agree, different parts differ: what noise must do.
    """
    if not isinstance(gradient, DTensor):
        return []
    coordinates = gradient.device_mesh.get_coordinate()
    return [c for c, placement in zip(coordinates, gradient.placements, strict=True) if placement.is_shard()]


class OGM(Modulation):
    """Scales the gradient of the dominant modality's encoder (paper Eq. 11-12), with noise if asked (Eq. 16).

    Logs `ogm/coefficient_<m>` (mean of the steps' k).
    """

    name = "ogm"
    config_class = OGMConfig
    config: OGMConfig
    phase = "scale_gradients"
    titles: ClassVar = {"coefficient": Title("gradient coefficient", 0)}

    @property
    def accumulation(self) -> str:
        return "exact" if self.config.placement == "gradients" else "per_micro_batch"

    def needs(self, modalities: Sequence[str]) -> Needs:
        in_graph = self.config.placement == "graph"
        return Needs(
            gradients=not in_graph,
            gradient_scale=True,
            separate_encoders=True,
            features_only=in_graph,
            current_logits=in_graph or self.config.rescore_after_drop,
        )

    @property
    def compares_modalities(self) -> bool:
        return self.config.noise == "none"

    def _is_modulated(self, parameter: nn.Parameter) -> bool:
        return parameter.dim() >= MINIMUM_DIMENSIONS[self.config.parameters]

    def coefficients(self, discrepancy: Tensor) -> Tensor:
        """k of every modality, `(modalities,)`, from what the config follows."""
        config = self.config
        if config.coefficient == "two_sided":
            return two_sided_coefficients(discrepancy, config.alpha, config.beta_max)
        if config.coefficient == "paper":
            return gradient_coefficients(discrepancy, config.alpha, TRANSFORMS[config.transform])
        return released_gradient_coefficients(discrepancy, config.alpha)

    def _logged_coefficients(self, discrepancy: Tensor) -> Tensor:
        coefficients = self.coefficients(discrepancy)
        self.means.add({f"{self.name}/coefficient": coefficients})
        return coefficients

    def modulate_features(
        self, features: dict[str, Tensor], batch: MicroBatch, keep_mask: Tensor | None, step: Step
    ) -> dict[str, Tensor]:
        config = self.config
        totals = post_drop_totals(batch, keep_mask) if config.rescore_after_drop else None
        if config.placement == "gradients":
            if totals is not None:
                step.add(f"{self.name}/post_drop", totals)
            return features
        with torch.no_grad():
            if totals is not None:
                totals = totals if step.sum_over_processes is None else step.sum_over_processes(totals)
                discrepancy = config.measured(*comparable_scores(*totals))
            else:
                discrepancy = config.current_discrepancy(batch, step.sum_over_processes)
            coefficients = self._logged_coefficients(discrepancy)
        return {
            modality: GradientScale.apply(feature, coefficient)
            for (modality, feature), coefficient in zip(features.items(), coefficients.unbind(), strict=True)
        }

    def warn_if_idle(self, encoders: Mapping[str, nn.Module], epochs: float, steps: int) -> None:
        super().warn_if_idle(encoders, epochs, steps)
        for modality, encoder in encoders.items():
            trained = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
            if not trained:
                warnings.warn(
                    f"{self.name} has no gradient to change in the {modality!r} encoder: it has no trainable "
                    "parameter; its coefficients are logged all the same. Unfreeze it, or use OPM, which acts on the "
                    "features.",
                    stacklevel=2,
                )
            elif not any(map(self._is_modulated, trained)):
                warnings.warn(
                    f"{self.name} with parameters={self.config.parameters!r} touches no parameter of the {modality!r} "
                    "encoder, which has none of that kind. Set parameters: all or matrix.",
                    stacklevel=2,
                )

    @torch.no_grad()
    def modulate_gradients(self, gradients: Gradients, step: Step) -> None:
        config = self.config
        if config.placement == "graph":
            return
        if config.rescore_after_drop:
            discrepancy = config.measured(*comparable_scores(*step.total(f"{self.name}/post_drop")))
        else:
            discrepancy = config.discrepancy(step)
        coefficients = self._logged_coefficients(discrepancy)
        for index, (modality, coefficient) in enumerate(zip(step.modalities, coefficients.unbind(), strict=True)):
            scaled = [p.grad for p in gradients.parameters[modality] if p.grad is not None and self._is_modulated(p)]
            if not scaled:
                continue
            if config.noise == "none":
                scale_gradients(scaled, coefficient)
            else:
                shard = shard_coordinates(scaled[0])
                generator = seeded_generator(self.name, scaled[0].device, step.seed, step.step, index, *shard)
                enhance_gradients(scaled, coefficient, generator)
