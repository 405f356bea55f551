"""MLA, multimodal learning with alternating unimodal adaptation: the modalities take turns on one shared classifier.

For m = 1..M in turn, on the same batch, the loss is that of modality m's own prediction alone, its encoder and the
shared classifier take a step, and the other encoders are frozen. The classifier's gradient is projected away from what
the turns before it have used, by P, which starts at I; after each turn, with r the mean feature of its modality,

    grad W <- grad W P^T,    P <- P - (P r)(P r)^T / (a + r^T P r),    a = 0.1^(1 + t/T)

where t/T is the part of the epoch that is over (CVPR 2024,
github.com/Cecile-hi/Multimodal-Learning-with-Alternating-Unimodal-Adaptation).

Usage:      `modulations: {mla: {}}`; the model's config then has `fusion: shared` and `shared_prediction: entropy`, as
            a recipe's has by itself: in evaluation the surer modality counts more. `mean` is the other one.
Values:     none beside the projection; the paper trains with SGD, 100 epochs, learning rate 1e-3, times 0.1 at 70.
Relations:  replaces the losses, so methods that add some are excluded. Features that are projected to the classifier's
            width have that projection trained in their own turn.
Limits:     M optimizer steps, and M passes, for each batch: `max_steps` and schedules by steps count them all, epochs
            are M times as long in steps. One linear classifier, so no `head_hidden_sizes`. BatchNorm's running
            statistics are not gradients and follow the data in frozen encoders, too. With a single modality it does
            nothing.

Preset `released` has the authors' code's P: the numerator is divided, entry by entry, by the matrix a + (P r) r^T, and
P by its Frobenius norm after each update. As there, P is updated before it projects the gradient of the same turn, and
the first turn of the training does neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from ..ground.task import at_least_float32
from .base import Modulation, Title
from .config import ModulationConfig, option
from .step import Gradients, MicroBatch, Needs, Run, Step


@dataclass
class MLAConfig(ModulationConfig):
    """Options of MLA.

    Args:
        projection: of the classifier's gradient: `"paper"`, `"released"` or `"none"`.
    """

    projection: str = option(
        "paper", "Projection of the classifier's gradient: paper, released or none.", ("paper", "released", "none")
    )

    RELEASED: ClassVar[dict[str, Any]] = {"projection": "released"}


def updated_projection(projection: Tensor, mean_feature: Tensor, a: float) -> Tensor:
    """`P - (P r)(P r)^T / (a + r^T P r)`, symmetric: what is left of P without the direction of r, for a small `a`.

    Args:
        projection: P, `(dim, dim)`, symmetric.
        mean_feature: r, `(dim,)`.
        a: > 0.

    Example:
        >>> import torch
        >>> updated_projection(torch.eye(2), torch.tensor([1.0, 2.0]), 0.1)
        tensor([[ 0.8039, -0.3922],
                [-0.3922,  0.2157]])
    """
    direction = projection @ mean_feature
    updated = projection - torch.outer(direction, direction) / (a + mean_feature @ direction)
    return (updated + updated.T) / 2


def released_projection(projection: Tensor, mean_feature: Tensor, a: float) -> Tensor:
    """The authors' code; arguments as of `updated_projection`."""
    direction = projection @ mean_feature
    updated = projection - torch.outer(direction, direction) / (a + torch.outer(direction, mean_feature))
    return updated / torch.linalg.matrix_norm(updated)


PROJECTIONS = {"paper": updated_projection, "released": released_projection}


class MLA(Modulation):
    """Trains the modalities in turns on one classifier. Logs `mla/loss_<m>`, of a modality's own prediction."""

    name = "mla"
    config_class = MLAConfig
    config: MLAConfig
    phase = "replace_losses"
    compares_modalities = True
    kept = ("projection",)
    titles: ClassVar = {"loss": Title("loss of one modality")}

    def needs(self, modalities: Sequence[str]) -> Needs:
        return Needs(
            gradients=True,
            separate_encoders=True,
            head_graph=True,
            steps_per_batch=max(1, len(modalities)),
            model_options={"fusion": "shared", "shared_prediction": "entropy"},
        )

    def attach(self, run: Run) -> None:
        options = {} if run.face.config is None else run.face.config.to_dict()
        parts = dict(run.model.named_children())
        if options.get("fusion") != "shared" or options.get("head_hidden_sizes") or "head" not in parts:
            raise ValueError(
                f"mla trains one linear classifier for all modalities, found a {type(run.model).__name__} with fusion "
                f"{options.get('fusion')!r} and head_hidden_sizes {options.get('head_hidden_sizes')!r}. Use a "
                "MultimodalForClassification with fusion: shared, without hidden layers."
            )
        self._head = parts["head"]

    def forget(self) -> None:
        self._projection: Tensor | None = None  # P; None is I

    def forward_losses(self, features: dict[str, Tensor], batch: MicroBatch, step: Step) -> dict[str, Tensor]:
        if len(step.modalities) == 1:
            return {}
        name = step.modalities[step.turn]
        present = batch.present(name)
        with torch.no_grad():
            feature = batch.features[name]
            if name in self._head.projections:
                feature = self._head.projections[name](feature)
            counts = feature.new_ones(len(feature)) if present is None else present.to(feature.dtype)
            kept = at_least_float32(feature * counts[:, None])  # those of absent samples are zero
            step.add(f"{self.name}/feature", torch.cat([kept.sum(0), at_least_float32(counts).sum()[None]]))
        return {name: batch.loss(batch.head_graph[name], present)}

    def modulate_losses(self, losses: dict[str, Tensor], batch: MicroBatch, step: Step) -> dict[str, Tensor]:
        if len(step.modalities) == 1:
            return losses
        name = step.modalities[step.turn]
        self.means.add({f"{self.name}/loss_{name}": losses[name].detach()})
        # The others stay in the graph, so that every parameter has a gradient, as DDP expects.
        return {key: loss if key == name else 0.0 * loss for key, loss in losses.items()}

    @torch.no_grad()
    def modulate_gradients(self, gradients: Gradients, step: Step) -> None:
        if len(step.modalities) == 1:
            return
        for turn, name in enumerate(step.modalities):
            if turn != step.turn:
                projection = self._head.projections[name].parameters() if name in self._head.projections else ()
                for parameter in [*gradients.parameters[name], *projection]:
                    parameter.grad = None
        if self.config.projection == "none":
            return
        gradient = self._head.classifier[-1].weight.grad
        local = gradient.to_local() if isinstance(gradient, DTensor) else gradient  # FSDP2 shards by classes
        *_, count = total = step.total(f"{self.name}/feature")
        mean, a = total[:-1] / count.clamp_min(1), 0.1 ** (1 + step.epoch % 1)
        first, released = self._projection is None, self.config.projection == "released"
        before = torch.eye(len(mean), dtype=mean.dtype, device=mean.device) if first else self._projection
        after = torch.where(count > 0, PROJECTIONS[self.config.projection](before, mean, a), before)
        if not first:
            used = after if released else before
            local.copy_(local.to(used.dtype) @ used.T)
        self._projection = before if first and released else after
