"""OGM, on-the-fly gradient modulation: scale down the dominant modality's encoder gradient in the backward pass.

Paper Sec. 3.2.2, Eq. 9-17, Algorithm 2, Fig. 3. The paper's "OGM" includes the Gaussian noise that gives back the
gradient noise lost by scaling (called GE, generalisation enhancement); here that is `noise: entry_std`.

Usage:      `modulations: {ogm: {alpha: 0.8, noise: entry_std}}`
Values:     alpha 0.8 on CREMA-D and Kinetics-Sounds, 0.1 on VGGSound; search 0.1...1 on a validation split.
Relations:  shares the ratios with OPM, which acts on the features. Adam-family optimizers divide a constant scale
            away, so use SGD with momentum (the trainer warns).

Preset `released` follows the authors' code: `1 - tanh(alpha rho)`, convolution weights only, not in the first six
epochs and not after epoch 60. At an exact tie of the scores (which their code treats as dominance of the second
modality) nothing is scaled in either preset.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .base import BalanceState, Modulation, ModulationConfig, check_choice, check_range
from .discrepancy import tanh_shifted


@dataclass
class OGMConfig(ModulationConfig):
    """Options of OGM.

    Args:
        alpha: strength of the scaling, >= 0 (paper Eq. 11). 0 leaves the gradients as they are.
        noise: `"none"`, or `"entry_std"`: add zero-mean Gaussian noise with the standard deviation of the entries
            of each parameter's gradient before scaling, for every modality (Algorithm 2; OGM-GE).
        coefficient: `"paper"`: `1 - alpha tanh(rho - 1)`; `"released"`: `1 - tanh(alpha rho)`.
        parameters: which encoder parameters: `"all"` (paper), `"matrix"` (two or more dimensions) or `"conv"`
            (four dimensions, released code).
    """

    alpha: float = field(default=0.8, metadata={"help": "Strength of the gradient scaling, >= 0."})
    noise: str = field(default="none", metadata={"help": "Gradient noise: none or entry_std (OGM-GE)."})
    coefficient: str = field(default="paper", metadata={"help": "Form of the coefficient: paper or released."})
    parameters: str = field(default="all", metadata={"help": "Encoder parameters to modulate: all, matrix or conv."})

    RELEASED: ClassVar[dict[str, Any]] = {"coefficient": "released", "parameters": "conv", "start": 6, "end": 61}

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("alpha", self.alpha, low=0)
        check_choice("noise", self.noise, ("none", "entry_std"))
        check_choice("coefficient", self.coefficient, ("paper", "released"))
        check_choice("parameters", self.parameters, tuple(MINIMUM_DIMENSIONS))


MINIMUM_DIMENSIONS = {"all": 0, "matrix": 2, "conv": 4}


def gradient_coefficients(ratios: Tensor, alpha: float, z: Callable[[Tensor], Tensor] = tanh_shifted) -> Tensor:
    """Coefficient `k^m = max(0, 1 - alpha z(rho^m))` where `rho^m > 1`, else 1 (paper Eq. 11).

    Args:
        ratios: `(modalities,)` discrepancy ratios.
        alpha: >= 0.
        z: monotone map of ratios above 1 into (0, 1).

    Returns:
        `(modalities,)` in [0, 1]; 1 for a ratio that is not a number.

    Example:
        >>> import torch
        >>> gradient_coefficients(torch.tensor([1.5455, 0.6471]), alpha=0.8)
        tensor([0.6023, 1.0000])
    """
    return torch.where(ratios > 1, (1 - alpha * z(ratios)).clamp_min(0), 1.0)


def released_gradient_coefficients(ratios: Tensor, alpha: float) -> Tensor:
    """The authors' code: `1 - tanh(alpha rho^m)` where `rho^m > 1`, else 1; it jumps at a ratio of 1.

    Args and result as in `gradient_coefficients`.
    """
    return torch.where(ratios > 1, 1 - torch.tanh(alpha * ratios), 1.0)


def gradient_entry_std(gradient: Tensor) -> Tensor:
    """Unbiased standard deviation of a gradient's entries, a 0-d tensor; 0 for a single entry."""
    return gradient.std() if gradient.numel() > 1 else torch.zeros_like(gradient).sum()


def scale_gradients(gradients: Sequence[Tensor], coefficient: Tensor) -> None:
    """Multiplies every gradient by the 0-d `coefficient` in place, without a host sync (paper Eq. 12)."""
    torch._foreach_mul_(list(gradients), coefficient)


def enhance_gradients(gradients: Sequence[Tensor], coefficient: Tensor, generator: torch.Generator) -> None:
    """`k g + h` in place with `h ~ N(0, std(g)^2)` per parameter (paper Eq. 16; OGM-GE).

    The standard deviation is that of the unscaled gradient. A gradient with an infinite entry stays non-finite, so
    a gradient scaler still sees the overflow and skips the step. Memory: one parameter's noise at a time.
    """
    for gradient in gradients:
        std = gradient_entry_std(gradient)
        noise = torch.empty_like(gradient).normal_(generator=generator)
        gradient.mul_(coefficient).addcmul_(noise, std)


class OGM(Modulation):
    """Scales the gradient of the dominant modality's encoder (paper Eq. 11-12), with noise if asked (Eq. 16).

    Logs `ogm/coefficient_<m>` (mean of the steps' k).
    """

    name = "ogm"
    config_class = OGMConfig
    config: OGMConfig
    needs_gradient_scale = True

    @torch.no_grad()
    def modulate_gradients(self, parameters: Mapping[str, Sequence[nn.Parameter]], state: BalanceState) -> None:
        config = self.config
        form = gradient_coefficients if config.coefficient == "paper" else released_gradient_coefficients
        coefficients = form(state.ratios, config.alpha)
        self.means.add({"ogm/coefficient": coefficients})
        for index, (modality, coefficient) in enumerate(zip(parameters, coefficients.unbind(), strict=True)):
            gradients = [
                parameter.grad
                for parameter in parameters[modality]
                if parameter.grad is not None and parameter.dim() >= MINIMUM_DIMENSIONS[config.parameters]
            ]
            if not gradients:
                continue
            if config.noise == "none":
                scale_gradients(gradients, coefficient)
            else:
                generator = self.seeded_generator(gradients[0].device, state.seed, state.step, index)
                enhance_gradients(gradients, coefficient, generator)
