"""AGM, adaptive gradient modulation: keep each modality at the lead over the others that it has had so far.

Li et al. 2023, "Boosting multi-modal model performance with adaptive gradient modulation" (ICCV). With f(S) what the
head predicts when all but the modalities S are zero, a modality's response v^m is its Shapley value in f, with
f(empty) counted as zero, so that the responses sum up to the joint prediction; of a linear head W^m phi^m + b/M. Then

    loss            c^m = mean_i loss(v_i^m),               each at most -ln(1e-8)
    its history     h^m = mean of c^m over all earlier steps
    lead now        r^m = exp(mean_{j != m} c^j - c^m),     tau^m the same of h
    coefficient     k^m = exp(alpha min(tau^m - r^m, cap))

and the gradient of encoder m is multiplied by k^m: a modality that is further ahead than usual is slowed down, one
that is less ahead is sped up.

Usage:      `modulations: {agm: {alpha: 1.0}}`
Values:     alpha 1 (the authors' code); search 0.1...2 on a validation split. cap 10.
Relations:  as of OGM: SGD with momentum, as Adam-family optimizers divide a constant scale away. k may exceed 1, and
            gradient clipping comes after it; the authors' code clips the norm at 1.
Cost:       2^M - 1 passes of the head a micro-batch, without gradient and in the model's own mode.

The authors' code hooks the gradient at v^m, so that the head's weights of a modality are scaled, too, and sets inputs
to zero; here it is the encoders' gradients and features. The losses are those of the whole optimizer step. In the
first step every tau is 1. A modality that no sample of a step has keeps its history and its gradient.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..ground.task import at_least_float32
from .base import Modulation, Title
from .config import ModulationConfig, option
from .discrepancy import loss_totals
from .ogm import scale_gradients
from .step import Gradients, MicroBatch, Needs, Step

LARGEST_LOSS = -math.log(1e-8)


@dataclass
class AGMConfig(ModulationConfig):
    """Options of AGM.

    Args:
        alpha: strength, >= 0. 0 leaves the gradients as they are.
        cap: the largest difference of the leads that counts, > 0.
    """

    alpha: float = option(1.0, "Strength of the gradient scaling, >= 0.", "[0, inf)")
    cap: float = option(10.0, "Largest difference of the leads that counts, > 0.", "(0, inf]")


def responses(modalities: Sequence[str], predict: Callable[[tuple[str, ...]], Tensor]) -> dict[str, Tensor]:
    """The Shapley value of each modality in what a head predicts, nothing counting as zero; they sum up to the joint
    prediction.

    Args:
        modalities: names.
        predict: from some of the modalities, at least one, to logits; each subset is asked for once.

    Example:
        >>> import torch
        >>> alone = {("a",): 2.1, ("b",): 0.1, ("a", "b"): 1.1}
        >>> responses(("a", "b"), lambda kept: torch.tensor(alone[kept]))
        {'a': tensor(1.5500), 'b': tensor(-0.4500)}
    """
    count, found = len(modalities), dict.fromkeys(modalities, 0.0)
    for size in range(1, count + 1):
        joins = math.factorial(size - 1) * math.factorial(count - size) / math.factorial(count)
        stays_out = (
            math.factorial(size) * math.factorial(count - size - 1) / math.factorial(count) if size < count else 0
        )
        for kept in itertools.combinations(modalities, size):
            value = predict(kept)
            for name in modalities:
                found[name] = found[name] + (joins * value if name in kept else -stays_out * value)
    return found


def leads(losses: Tensor, known: Tensor) -> Tensor:
    """`exp(mean_{j != m} c^j - c^m)`, above 1 where a modality's loss is below that of the others.

    Args:
        losses: c, `(modalities,)`.
        known: bool `(modalities,)`; of one whose loss is not known, and where no other's is, the lead is 1.
    """
    counts = known.to(losses.dtype)
    others = counts.sum() - counts
    mean = ((losses * counts).sum() - losses * counts) / others.clamp_min(1)
    return torch.where(known & (others > 0), torch.exp(mean - losses), 1.0)


def agm_coefficients(lead: Tensor, usual: Tensor, alpha: float, cap: float = 10.0) -> Tensor:
    """`k^m = exp(alpha min(tau^m - r^m, cap))`, `(modalities,)`, in (0, exp(alpha cap)].

    Args:
        lead: r, `(modalities,)`.
        usual: tau, `(modalities,)`.
        alpha: >= 0.
        cap: > 0.

    Example:
        >>> import torch
        >>> agm_coefficients(torch.tensor([1.549193, 0.645497]), torch.ones(2), alpha=1.0)
        tensor([0.5774, 1.4255])
    """
    return torch.exp(alpha * (usual - lead).clamp_max(cap))


class AGM(Modulation):
    """Scales every encoder's gradient by how far its modality's lead is from the usual one.

    Logs `agm/coefficient_<m>` (mean of the steps' k) and `agm/loss_<m>` (of their c).
    """

    name = "agm"
    config_class = AGMConfig
    config: AGMConfig
    phase = "scale_gradients"
    compares_modalities = True
    kept = ("history",)
    titles: ClassVar = {
        "coefficient": Title("gradient coefficient", 0),
        "loss": Title("loss of the modality's response"),
    }

    def needs(self, modalities: Sequence[str]) -> Needs:
        return Needs(gradients=True, gradient_scale=True, separate_encoders=True, fuse=True)

    def forget(self) -> None:
        self._history: Tensor | None = None  # (2, modalities): mean losses, and of how many steps

    @torch.no_grad()
    def forward_losses(self, features: dict[str, Tensor], batch: MicroBatch, step: Step) -> dict[str, Tensor]:
        def predict(kept: tuple[str, ...]) -> Tensor:
            logits = at_least_float32(batch.fuse({name: batch.features[name] for name in kept}))
            return logits - batch.task.nothing(logits)

        found = responses(tuple(batch.features), predict)
        found = {name: own + batch.task.nothing(own) for name, own in found.items()}
        step.add(self.name, loss_totals(found, batch, LARGEST_LOSS))
        return {}

    @torch.no_grad()
    def modulate_gradients(self, gradients: Gradients, step: Step) -> None:
        sums, counts = step.total(self.name)
        losses, present = sums / counts.clamp_min(1), counts > 0
        if self._history is None:
            self._history = torch.zeros_like(torch.stack([sums, counts]))
        usual, steps = self._history
        coefficients = agm_coefficients(
            leads(losses, present), leads(usual, steps > 0), self.config.alpha, self.config.cap
        )
        coefficients = torch.where(present, coefficients, 1.0)
        mean = torch.where(present, (usual * steps + losses) / (steps + 1), usual)
        self._history = torch.stack([mean, steps + present])
        self.means.add({"agm/coefficient": coefficients, "agm/loss": losses})
        for modality, coefficient in zip(step.modalities, coefficients.unbind(), strict=True):
            scaled = [p.grad for p in gradients.parameters[modality] if p.grad is not None]
            if scaled:
                scale_gradients(scaled, coefficient)
