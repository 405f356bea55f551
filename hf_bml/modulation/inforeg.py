"""InfoReg, information regulation: slow the modalities that lead, in the epochs in which they gather information.

Huang et al. 2025, "Adaptive unimodal regulation for balanced multimodal information acquisition" (CVPR), Eq. 7-16 and
Algorithm 1. Per modality m, with s^m the mean log-likelihood of its own predictions in a step,

    lead        Delta^m = mean of s^m - s^j over the modalities j with s^j < s^m; 0 of the weakest
    Fisher      Tr_e^m = mean over the steps of epoch e of |g^m|^2, g^m the gradient of encoder m
    window      (Tr_{e-1}^m - Tr_{e-2}^m) / Tr_{e-1}^m > threshold, from the third epoch on
    gradient    g^m + strength exp(beta tanh Delta^m) (theta^m - theta^m at the beginning of the epoch)

where the window is open and Delta^m > 0: the encoder is drawn back to where the epoch began.

Usage:      `modulations: {inforeg: {}}`; with the modalities' own losses: `{inforeg: {}, multi_loss: {}}`
Values:     threshold 0.05 (the authors' code; 0.04 in another of its commits); beta 1 is ours, search 0.5...2.
            strength 1, 0 is plain training.
Relations:  Eq. 8 prints -log, which would regulate the weakest modality; as the text asks, it is the log-likelihood
            here, by the task's own loss.
Limits:     three epochs at least, counted from `start`, and no streams. A copy of the encoders' trained weights in
            memory and in checkpoints. It needs the whole model on every process.

The authors' code lets the audio trace decide for both modalities, averages traces over ten epochs, of weights alone
and with the penalty in them, takes sums of probabilities for scores, multiplies the regulation by 0.95 (audio) or 0.1
(visual), opens the window in the first epoch, and always adds the modalities' own losses; there is no preset for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..ground.task import at_least_float32
from .base import Modulation, Title
from .config import ModulationConfig, option
from .discrepancy import loss_totals, snapped
from .step import Gradients, MicroBatch, Needs, Step


@dataclass
class InfoRegConfig(ModulationConfig):
    """Options of InfoReg.

    Args:
        beta: how fast the regulation grows with the lead, >= 0.
        threshold: relative growth of the Fisher trace above which the window is open, < 1.
        strength: factor of the regulation, >= 0.
    """

    beta: float = option(1.0, "How fast the regulation grows with the lead, >= 0.", "[0, inf)")
    threshold: float = option(0.05, "Relative growth of the Fisher trace that regulates.", "[-inf, 1)")
    strength: float = option(1.0, "Factor of the regulation, >= 0.", "[0, inf)")


def score_leads(scores: Tensor, observed: Tensor | None = None) -> Tensor:
    """`Delta^m`, `(modalities,)`: the mean of `s^m - s^j` over the modalities with a smaller score; 0 if none has.

    Args:
        scores: s, `(modalities,)`; those that differ by rounding only are equal.
        observed: optional bool `(modalities,)`; others have no lead and give none.

    Example:
        >>> import torch
        >>> score_leads(torch.tensor([-0.2, -0.5, -1.1]))
        tensor([0.6000, 0.6000, 0.0000])
    """
    largest = scores.abs().amax().clamp_min(1)  # a logarithm near 0 is rounded as its probability, near 1
    differences = snapped(scores[:, None] - scores, 0.0, largest)
    weaker = differences > 0
    if observed is not None:
        weaker = weaker & observed & observed[:, None]
    return torch.where(weaker, differences, 0.0).sum(1) / weaker.sum(1).clamp_min(1)


def growth(earlier: Tensor, later: Tensor) -> Tensor:
    """`(later - earlier) / later` of Fisher traces, `(modalities,)`; 0 where the later one is 0.

    Example:
        >>> import torch
        >>> growth(torch.tensor([1.0]), torch.tensor([1.2]))
        tensor([0.1667])
    """
    return torch.where(later > 0, (later - earlier) / later, 0.0)


def regulation(leads: Tensor, window: Tensor, beta: float, strength: float = 1.0) -> Tensor:
    """Factors of `theta - theta at the beginning`, `(modalities,)`: `strength exp(beta tanh Delta)`, 0 outside the
    window and without a lead.

    Args:
        leads: Delta, `(modalities,)`.
        window: bool `(modalities,)`.
        beta: >= 0.
        strength: >= 0.
    """
    return torch.where(window & (leads > 0), strength * torch.exp(beta * torch.tanh(leads)), 0.0)


def squared_norm(parameters: Sequence[Tensor], like: Tensor) -> Tensor:
    """`|g|^2` of the parameters' gradients, summed in float32 or better, 0-d, in dtype and device as `like`; 0 where
    there are none."""
    norms = [at_least_float32(p.grad).square().sum() for p in parameters if p.grad is not None]
    return torch.stack(norms).sum().to(like) if norms else like.new_zeros(())


class InfoReg(Modulation):
    """Draws encoders with a lead back to where the epoch began, while their Fisher trace grows.

    Logs `inforeg/regulation_<m>` and `inforeg/trace_<m>`, the means of the steps' factors and squared gradient norms.
    """

    name = "inforeg"
    config_class = InfoRegConfig
    config: InfoRegConfig
    phase = "penalise_gradients"
    compares_modalities = True
    kept = ("epoch", "beginning", "traces", "sum", "steps")
    titles: ClassVar = {
        "regulation": Title("pull to the epoch's beginning"),
        "trace": Title("trace of the Fisher information"),
    }
    example_options: ClassVar = {"threshold": -1e6}

    def needs(self, modalities: Sequence[str]) -> Needs:
        return Needs(gradients=True, separate_encoders=True, whole_model=True, current_logits=True)

    @property
    def first_epoch(self) -> float:
        return 2 + (self.config.start // 1 if self.config.unit == "epochs" else 0)

    @property
    def options_in_epochs(self) -> list[str]:
        return [*super().options_in_epochs, f"threshold={self.config.threshold:g}"]

    def forget(self) -> None:
        self._epoch = -1
        self._beginning: dict[str, list[Tensor | None]] = {}  # the encoders' parameters, None for frozen ones
        self._traces: list[Tensor] = []  # of the last two whole epochs
        self._sum: Tensor | None = None  # of this epoch's squared norms
        self._steps = 0

    @torch.no_grad()
    def modulate_losses(self, losses: dict[str, Tensor], batch: MicroBatch, step: Step) -> dict[str, Tensor]:
        step.add(self.name, loss_totals(batch.unimodal_logits, batch))
        return losses

    @torch.no_grad()
    def modulate_gradients(self, gradients: Gradients, step: Step) -> None:
        parameters = {name: gradients.parameters[name] for name in step.modalities}
        if int(step.epoch) != self._epoch:
            self._begin(int(step.epoch), parameters)
        sums, counts = step.total(self.name)
        leads = score_leads(-sums / counts.clamp_min(1), counts > 0)
        scale = 1.0 if step.gradient_scale is None else step.gradient_scale
        norms = torch.stack([squared_norm(own, sums) for own in parameters.values()]) / scale**2
        self._sum, self._steps = norms if self._sum is None else self._sum + norms, self._steps + 1
        window = torch.zeros_like(leads, dtype=torch.bool)
        if len(self._traces) == 2:
            window = growth(*self._traces) > self.config.threshold
        factors = regulation(leads, window, self.config.beta, self.config.strength)
        self.means.add({"inforeg/regulation": factors, "inforeg/trace": norms})
        for (name, own), factor in zip(parameters.items(), (factors * scale).unbind(), strict=True):
            for parameter, beginning in zip(own, self._beginning[name], strict=True):
                if parameter.grad is not None and beginning is not None:
                    parameter.grad.add_((parameter - beginning) * factor.to(parameter.dtype))

    def _begin(self, epoch: int, parameters: Mapping[str, Sequence[Tensor]]) -> None:
        """Closes an epoch's trace, and remembers where the next one begins."""
        if self._sum is not None:
            self._traces = [*self._traces, self._sum / self._steps][-2:]
        self._epoch, self._sum, self._steps = epoch, None, 0
        self._beginning = {
            name: [p.detach().clone() if p.requires_grad else None for p in own] for name, own in parameters.items()
        }

    def snapshots(self) -> list[Tensor]:
        return [value for values in self._beginning.values() for value in values if value is not None]
