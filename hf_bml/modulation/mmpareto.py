"""MMPareto: combine an encoder's joint and unimodal gradients so that neither loss is served against the other.

Wei and Hu, ICML 2024. Every modality's own prediction has a loss L^m beside the joint one. For the encoder of m, with
g and v the gradients of the joint loss and of L^m, flattened:

    c = 1/2 if <g, v> > 0, else what makes ||c g + (1 - c) v|| smallest
    h = 2 (c g + (1 - c) v),   gradient = gamma max(1, ||g + v|| / ||h||) h

Where they do not conflict this is gamma (g + v); in a conflict h goes along with both, at the length of g + v. Heads
keep the plain gradient of all losses. Gradients are summed over micro-batches and processes before they are compared.

Usage:      `modulations: {mmpareto: {}}`
Values:     gamma 1.5; search 1...2. It scales a gradient that `max_grad_norm` may then clip; Adam divides it away.
Relations:  `multi_loss`, whose options `heads` and `weight` it shares, adds the same losses without combining; with
            gamma 1 and no conflict both are the same. The two cannot be used together.
Limits:     it needs each parameter whole on every process, and activation checkpointing with `use_reentrant: false`.

Preset `released` follows the authors' code: the length is restored for each parameter tensor by itself, and c stays in
[0.001, 0.999]. Where a step has no sample of a modality, v is 0 and the encoder gets gamma g in both presets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..ground.task import at_least_float32
from .base import Title
from .config import check_range, option
from .multi_loss import HEADS, MultiLoss, MultiLossConfig
from .step import JOINT, UNIMODAL, Gradients, Needs, Step


@dataclass
class MMParetoConfig(MultiLossConfig):
    """Options of MMPareto.

    Args:
        heads: see [`MultiLossConfig`]; `"own"` in the paper.
        weight: see [`MultiLossConfig`], > 0; 1 in the paper.
        gamma: factor of an encoder's gradient, > 0.
        magnitude: of what the length is restored after a conflict: `"encoder"` or each `"tensor"`.
        margin: c stays in [margin, 1 - margin] in a conflict; in [0, 0.5).
    """

    heads: str = option("own", "What predicts from one modality: own, a classifier, or split.", HEADS)
    gamma: float = option(1.5, "Factor of an encoder's combined gradient, > 0.", "(0, inf)")
    magnitude: str = option(
        "encoder", "Whose length is restored after a conflict: encoder or tensor.", ("encoder", "tensor")
    )
    margin: float = option(0.0, "The joint weight stays this far from 0 and 1, in [0, 0.5).", "[0, 0.5)")

    RELEASED: ClassVar[dict[str, Any]] = {"magnitude": "tensor", "margin": 0.001}

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("weight", self.weight, "(0, inf)")


def inner(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    """The inner product of two lists of tensors, 0-d, float32 or better."""
    pairs = zip(map(at_least_float32, first), map(at_least_float32, second), strict=True)
    return torch.stack([(a * b).sum() for a, b in pairs]).sum()


def restored(combined: Sequence[Tensor], plain: Sequence[Tensor]) -> list[Tensor]:
    """`combined` at the length of `plain` where it is shorter, both lists of tensors of the same shapes."""
    length = inner(combined, combined).sqrt()
    factor = (inner(plain, plain).sqrt() / length.clamp_min(torch.finfo(length.dtype).tiny)).clamp_min(1)
    return [factor.to(each.dtype) * each for each in combined]


def pareto_gradients(
    joint: Sequence[Tensor], unimodal: Sequence[Tensor], magnitude: str = "encoder", margin: float = 0.0
) -> tuple[list[Tensor], Tensor]:
    """The combined gradient of an encoder, for gamma = 1, and the joint gradient's weight c.

    Args:
        joint: g, a tensor per parameter.
        unimodal: v, in the same shapes.
        magnitude: `"encoder"` or `"tensor"`, see [`MMParetoConfig`].
        margin: in [0, 0.5).

    Returns:
        a tensor per parameter, not finite where g + v is not; and c, 0-d: 0.5 where g and v do not conflict, or one
        of them is 0.

    Example:
        >>> import torch
        >>> pareto_gradients([torch.tensor([-2.0, 1.0])], [torch.tensor([1.0, 0.0])])
        ([tensor([0.4472, 1.3416])], tensor(0.3000))
    """
    product, square, own_square = inner(joint, unimodal), inner(joint, joint), inner(unimodal, unimodal)
    conflict = (product <= 0) & (square > 0) & (own_square > 0)
    smallest = (own_square - product) / (square + own_square - 2 * product)
    weight = torch.where(conflict, smallest.clamp(margin, 1 - margin), 0.5)
    plain = [g + v for g, v in zip(joint, unimodal, strict=True)]
    share = weight.to(plain[0].dtype)
    combined = [2 * (share * g + (1 - share) * v) for g, v in zip(joint, unimodal, strict=True)]
    if magnitude == "tensor":
        long = [each for c, p in zip(combined, plain, strict=True) for each in restored([c], [p])]
    else:
        long = restored(combined, plain)
    return [torch.where(conflict, found, sum_) for found, sum_ in zip(long, plain, strict=True)], weight


class MMPareto(MultiLoss):
    """Combines the gradients of the joint loss and of a modality's own loss in its encoder.

    Logs `mmpareto/loss_<m>` and `mmpareto/joint_weight_<m>`, the steps' mean c, 0.5 without a conflict.
    """

    name = "mmpareto"
    config_class = MMParetoConfig
    config: MMParetoConfig
    phase = "combine_gradients"
    titles: ClassVar = {"joint_weight": Title("weight of the joint gradient", 0, 1)}

    def needs(self, modalities: Sequence[str]) -> Needs:
        return replace(
            super().needs(modalities),
            gradients=True,
            separate_encoders=True,
            whole_model=True,
            separate_gradients=(UNIMODAL,),
        )

    @torch.no_grad()
    def modulate_gradients(self, gradients: Gradients, step: Step) -> None:
        joint, unimodal = gradients.of(JOINT), gradients.of(UNIMODAL)
        weights = {}
        for name in step.modalities:
            if not joint[name]:  # features that were extracted before: nothing is trained
                continue
            combined, weights[name] = pareto_gradients(
                joint[name], unimodal[name], self.config.magnitude, self.config.margin
            )
            for parameter, gradient in zip(gradients.parameters[name], combined, strict=True):
                if parameter.grad is not None:
                    parameter.grad.copy_(self.config.gamma * gradient)
        self.means.add({f"mmpareto/joint_weight_{name}": weight for name, weight in weights.items()})
