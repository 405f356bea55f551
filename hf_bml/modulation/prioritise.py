"""Sequential modality prioritisation: the modality that predicts worst trains first, the better ones join later.

For a share of the training, M - 1 stages of equal length, only the weakest 1, 2, ..., M - 1 encoders are trained, and
the others are frozen; then all are. Who is weak is decided anew in every step, by the scores of paper Eq. 6. It is the
schedule of G2D (ICCV 2025, github.com/rAIson-Lab/G2D) without its teachers; with two modalities there is one stage.
The order for more than two, and the stages, are this package's.

Usage:      `modulations: {prioritise: {share: 0.5}}`
Values:     share 0.5: the first 150 of 300 epochs.
Relations:  `g2d` adds distillation from models of one modality each, and orders by these. The head trains all the
            time. A step of the whole training costs as much as without: a frozen encoder runs forward and backward.

`freeze: encoder` leaves a frozen encoder exactly as it is, momentum and weight decay included, and orders the
modalities by the step before, whose scores have reached the host by then; in the first step none is frozen.
`freeze: gradient` sets gradients to zero by the scores of the step itself; momentum and weight decay still act. At an
exact tie both modalities train. BatchNorm's running statistics are not gradients and follow the data in both.

Preset `released` follows the authors' code: `freeze: gradient`, of convolution weights only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from .base import Modulation, Title
from .config import ModulationConfig, option
from .discrepancy import ROUNDING
from .ogm import MINIMUM_DIMENSIONS, scale_gradients
from .step import Gradients, Needs, Step


@dataclass
class PrioritiseConfig(ModulationConfig):
    """Options of sequential modality prioritisation.

    Args:
        share: of the training, from its beginning, in which encoders are frozen, in [0, 1].
        freeze: `"encoder"`: a frozen encoder stays as it is; `"gradient"`: its gradient is zero (released code).
        parameters: which encoder parameters: `"all"`, `"matrix"` (two or more dimensions) or `"conv"` (four or more,
            convolutions; released code).
    """

    share: float = option(0.5, "Share of the training in which encoders are frozen.", "[0, 1]")
    freeze: str = option("encoder", "What stands still: encoder, or gradient (is zero).", ("encoder", "gradient"))
    parameters: str = option("all", "Encoder parameters to freeze: all, matrix or conv.", MINIMUM_DIMENSIONS)

    RELEASED: ClassVar[dict[str, Any]] = {"freeze": "gradient", "parameters": "conv"}


def trained_modalities(step: int, max_steps: int, share: float, modalities: int) -> int:
    """How many encoders train, the weakest ones: one more after each of `modalities - 1` equal stages.

    Args:
        step: optimizer steps already taken.
        max_steps: of the training.
        share: of it that the stages take.
        modalities: how many there are.

    Example:
        >>> [trained_modalities(step, 300, 0.5, 2) for step in (0, 149, 150, 299)]
        [1, 1, 2, 2]
        >>> [trained_modalities(step, 300, 0.5, 3) for step in (0, 74, 75, 149, 150)]
        [1, 1, 2, 2, 3]
    """
    if step >= share * max_steps:
        return modalities
    return 1 + int((modalities - 1) * step / (share * max_steps))


def frozen_modalities(scores: Tensor, observed: Tensor, trained: int) -> Tensor:
    """Which encoders are frozen, bool `(modalities,)`: those with `trained` or more weaker ones.

    Args:
        scores: `(modalities,)`; those that differ by rounding only are equal.
        observed: bool `(modalities,)`; a modality that no sample had is not frozen, and not counted.
        trained: how many are not frozen, ties aside.

    Example:
        >>> import torch
        >>> frozen_modalities(torch.tensor([1.8, 1.2, 0.8]), torch.ones(3, dtype=torch.bool), 2)
        tensor([ True, False, False])
    """
    apart = ROUNDING * torch.finfo(scores.dtype).eps * scores.amax()
    weaker = (scores[:, None] - scores > apart) & observed
    return (weaker.sum(1) >= trained) & observed


class HostCopy:
    """A tensor on its way to the host, so that whoever reads it a step later waits for nothing.

    Args:
        values: on any device.
    """

    def __init__(self, values: Tensor):
        self._values = values.to("cpu", non_blocking=True)
        self._arrived = None if values.device.type == "cpu" else torch.Event(values.device)
        if self._arrived is not None:
            self._arrived.record()

    def read(self) -> Tensor:
        """The tensor, on the CPU."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._values


class Prioritise(Modulation):
    """Freezes the encoders of the modalities that predict best. Logs `prioritise/frozen_<m>`, the share of steps."""

    name = "prioritise"
    config_class = PrioritiseConfig
    config: PrioritiseConfig
    phase = "freeze"
    compares_modalities = True
    titles: ClassVar = {"frozen": Title("share of frozen steps", 0, 1)}

    def needs(self, modalities: Sequence[str]) -> Needs:
        return Needs(gradients=True, separate_encoders=True)

    def forget(self) -> None:
        self._order: HostCopy | None = None

    def order(self, step: Step) -> tuple[Tensor, Tensor] | None:
        """Scores and whether they were observed, each `(modalities,)`: at a step's beginning of the step before, None
        before the first; when its gradients are modulated, of its own."""
        if step.scores is None:
            return None
        every = torch.ones_like(step.scores, dtype=torch.bool)
        return step.scores, every if step.observed is None else step.observed

    def begin_step(self, step: Step) -> None:
        order = self.order(step) if self.config.freeze == "encoder" else None
        self._order = None if order is None else HostCopy(torch.stack([order[0], order[1].to(order[0].dtype)]))

    @torch.no_grad()
    def modulate_gradients(self, gradients: Gradients, step: Step) -> None:
        config, count = self.config, len(step.modalities)
        trained = trained_modalities(step.step, step.max_steps, config.share, count)
        device = step.scores.device
        least = MINIMUM_DIMENSIONS[config.parameters]
        chosen = [
            [p for p in gradients.parameters[name] if p.grad is not None and p.dim() >= least]
            for name in step.modalities
        ]
        if config.freeze == "gradient":
            scores, observed = self.order(step)
            frozen = frozen_modalities(scores, observed, trained)
            for parameters, each in zip(chosen, frozen.unbind(), strict=True):
                if parameters and trained < count:
                    scale_gradients([p.grad for p in parameters], 1.0 - each.to(scores.dtype))
        elif self._order is None:
            frozen = torch.zeros(count, dtype=torch.bool)
        else:
            scores, observed = self._order.read()
            frozen = frozen_modalities(scores, observed > 0, trained)
            for parameters, each in zip(chosen, frozen.tolist(), strict=True):
                for parameter in parameters if each else ():
                    parameter.grad = None
        self.means.add({f"{self.name}/frozen": frozen.to(device, torch.float32, non_blocking=True)})
