"""OGM*, the opposite of OGM: leave the dominant modality's gradient as it is and raise that of the weaker ones.

Paper Sec. 4.4.2 and Table 13, which find it worse than OGM. The paper prints no formula; here it is OGM's, seen from
the other side: a modality is behind by `1 / rho^m` (by `-rho^m` for a difference of scores), and where that is above
the threshold its gradient is multiplied by `1 + alpha z(1 / rho^m)`. For two modalities that is `1 + alpha z(rho)`
with the dominant modality's ratio.

Usage:      `modulations: {ogm_star: {alpha: 0.8}}`, or `{mode: constant, constant: 4}` as in the authors' code
Values:     as for OGM; with noise: entry_std if the OGM it is compared to has it.
Relations:  everything but the coefficient is OGM's.

`coefficient: released` is the form that the authors' code holds in a comment, `1 + tanh(alpha / rho^m)`. Preset
`released` is what that code runs: a constant 4, on convolution weights, in OGM's epochs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..ground.suggestion import check_name
from .base import Title
from .config import option
from .discrepancy import TRANSFORMS, tanh_shifted
from .ogm import OGM, OGMConfig
from .step import Step


@dataclass
class OGMStarConfig(OGMConfig):
    """Options of OGM*: those of OGM, and

    Args:
        mode: `"adaptive"`: the coefficient follows the discrepancy; `"constant"`: it is always `constant`.
        constant: coefficient of a weaker modality in mode `"constant"`, at least 1.
    """

    mode: str = option("adaptive", "How much to raise a gradient: adaptive or constant.", ("adaptive", "constant"))
    constant: float = option(4.0, "The coefficient in mode constant, at least 1.", "[1, inf)")

    RELEASED: ClassVar[dict[str, Any]] = {**OGMConfig.RELEASED, "mode": "constant"}
    FURTHER_PRESETS: ClassVar[dict[str, dict[str, Any]]] = {}

    def __post_init__(self) -> None:
        super().__post_init__()
        check_name("coefficient", self.coefficient, ("paper", "released"))  # none of which reads beta_max

    def dominance(self, discrepancy: Tensor, scale: Tensor | float = 1.0) -> Tensor:
        """How far a modality is behind, `(modalities,)`, acting above 1."""
        return super().dominance(discrepancy.reciprocal() if self.measure == "ratio" else -discrepancy, scale)

    def discrepancy(self, step: Step) -> Tensor:
        """What the modulation follows, `(modalities,)`: ratios are turned around also where the threshold is 1."""
        return self.dominance(step.ratios) if self.measure == "ratio" else super().discrepancy(step)


def raised_coefficients(behind: Tensor, alpha: float, z: Callable[[Tensor], Tensor] = tanh_shifted) -> Tensor:
    """Coefficient `k^m = 1 + alpha z(x^m)` where `x^m > 1`, else 1.

    Args:
        behind: x, `(modalities,)`, how far each modality is behind: the reciprocal ratio or the negative difference.
        alpha: >= 0.
        z: monotone map of values above 1 into (0, 1).

    Returns:
        `(modalities,)`, at least 1; 1 for a value that is not a number.

    Example:
        >>> import torch
        >>> raised_coefficients(torch.tensor([0.6471, 1.5455]), alpha=0.8)
        tensor([1.0000, 1.3977])
    """
    return torch.where(behind > 1, 1 + alpha * z(behind), 1.0)


def released_raised_coefficients(behind: Tensor, alpha: float) -> Tensor:
    """The form in a comment of the authors' code: `1 + tanh(alpha x^m)` where `x^m > 1`, else 1.

    Args and result as in `raised_coefficients`.
    """
    return torch.where(behind > 1, 1 + torch.tanh(alpha * behind), 1.0)


class OGMStar(OGM):
    """Raises the gradient of the weaker modalities' encoders (paper Sec. 4.4.2), with noise if asked (Eq. 16).

    Logs `ogm_star/coefficient_<m>` (mean of the steps' k).
    """

    name = "ogm_star"
    config_class = OGMStarConfig
    config: OGMStarConfig
    titles: ClassVar = {"coefficient": Title("gradient coefficient", 0)}

    def coefficients(self, discrepancy: Tensor) -> Tensor:
        config = self.config
        if config.mode == "constant":
            return torch.where(discrepancy > 1, torch.full_like(discrepancy, config.constant), 1.0)
        if config.coefficient == "released":
            return released_raised_coefficients(discrepancy, config.alpha)
        return raised_coefficients(discrepancy, config.alpha, TRANSFORMS[config.transform])
