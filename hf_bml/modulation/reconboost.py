"""ReconBoost: modalities are trained in stages, each on what the others have not learned yet, then all together.

Stage n has two phases. In the first, modality m = n mod M alone is trained, on weighted samples, and in agreement with
the modality of the stage before; u are the unimodal shares of the joint logits, s the score of paper Eq. 6, and sg
stops the gradient:

    L = mean_i (w1 - w2 s(sum_{j != m} sg u_i^j)) CE(u_i^m, y_i) + agreement * mean_i KL(p_i^m || sg p_i^prev)

In the second, all encoders and the head are trained with the joint loss (ICML 2024, github.com/huacong/ReconBoost).
The published method multiplies the sum of the logits by a learned rate; here it is 1.

Usage:      `modulations: {reconboost: {}}`; the model's config then has `fusion: shared` and `shared_prediction: sum`,
            as a recipe's has by itself. Published runs start from unimodal models: `from_unimodal: encoders`, or
            `unimodal_init+reconboost` in `hf-bml compare`.
Values:     w1 5 (4 on AVE), w2 1, agreement 0.5, 4 epochs for each phase; SGD 0.01, weight decay 5e-4. The first
            phase's gradient is about w1 times the plain one, so lower a learning rate that was chosen without.
Relations:  replaces the losses in the first phase, so methods that add some are excluded. The loss that is reported
            there is without the samples' weights, which act on its gradient.
Limits:     both phases count as epochs of the training. In the first, the others' encoders are frozen, but for
            BatchNorm's running statistics, which follow the data; what only they use of the head has a gradient of
            zero, so that weight decay still acts on it. With a single modality it does nothing.

Preset `released` follows the authors' code: no agreement, and the loss of the first phase is divided by the number of
classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from .base import Modulation, Title
from .config import ModulationConfig, check_range, option
from .step import Gradients, MicroBatch, Needs, Run, Step
from .teachers import divergences


@dataclass
class ReconBoostConfig(ModulationConfig):
    """Options of ReconBoost.

    Args:
        w1: weight of a sample of which the others know nothing, > 0.
        w2: how much less a sample counts that they know, in [0, w1).
        agreement: weight of the divergence from the modality of the stage before, at least 0.
        alternating_epochs: of a stage's first phase, > 0.
        joint_epochs: of its second phase, at least 0.
        reset_momentum: forget the optimizer's state when a phase begins. Without it, the others' projections to a
            shared width are frozen in a first phase, weight decay included; in other heads momentum moves what only
            the others use.
        mean_over_classes: divide the loss of the first phase by the number of classes (released code).
    """

    w1: float = option(5.0, "Weight of a sample that the others do not know, > 0.", "(0, inf)")
    w2: float = option(1.0, "How much less a sample counts that they know, in [0, w1).")
    agreement: float = option(0.5, "Weight of the agreement with the stage before.", "[0, inf)")
    alternating_epochs: float = option(4.0, "Epochs that one modality is trained, > 0.", "(0, inf]")
    joint_epochs: float = option(4.0, "Epochs that all are trained after it, at least 0.", "[0, inf]")
    reset_momentum: bool = option(True, "Forget the optimizer's state between phases.")
    mean_over_classes: bool = option(False, "Divide the first phase's loss by the classes.")

    RELEASED: ClassVar[dict[str, Any]] = {"agreement": 0.0, "mean_over_classes": True}

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("w2", self.w2, f"[0, {self.w1})")


def residual_weights(scores: Tensor, w1: float, w2: float) -> Tensor:
    """`w1 - w2 s`, > 0, shaped as the scores s in [0, 1] of what the other modalities predict together.

    Example:
        >>> import torch
        >>> residual_weights(torch.tensor([0.6, 0.5]), 5.0, 1.0)
        tensor([4.4000, 4.5000])
    """
    return w1 - w2 * scores


def with_weighted_gradient(logits: Tensor, weights: Tensor) -> Tensor:
    """The logits, whose gradient is multiplied by the weights: that of any mean of losses becomes the one of their
    weighted mean.

    Args:
        logits: `(batch, ..., num_labels)`.
        weights: `(batch, ...)`.
    """
    constant = logits.detach()
    return constant + weights.unsqueeze(-1).to(logits.dtype) * (logits - constant)


def stage_of(epoch: float, alternating_epochs: float, joint_epochs: float) -> tuple[int, bool]:
    """The stage, from 0, and whether it is in its first phase.

    Example:
        >>> [stage_of(epoch, 4, 4) for epoch in (0, 3.9, 4, 7.9, 8)]
        [(0, True), (0, True), (0, False), (0, False), (1, True)]
    """
    length = alternating_epochs + joint_epochs
    return int(epoch // length), epoch % length < alternating_epochs


class ReconBoost(Modulation):
    """Trains one modality after the other on what the rest has not learned, and all of them in between.

    Logs `reconboost/trained_<m>`, the share of steps in which an encoder was trained.
    """

    name = "reconboost"
    config_class = ReconBoostConfig
    config: ReconBoostConfig
    phase = "replace_losses"
    compares_modalities = True
    kept = ("stage",)
    titles: ClassVar = {"trained": Title("share of steps trained", 0, 1)}
    example_options: ClassVar = {"alternating_epochs": 0.25, "joint_epochs": 0.75}

    def needs(self, modalities: Sequence[str]) -> Needs:
        return Needs(
            gradients=True,
            separate_encoders=True,
            head_graph=True,
            classes=True,
            optimizer=self.config.reset_momentum,
            model_options={"fusion": "shared", "shared_prediction": "sum"},
        )

    @property
    def options_in_epochs(self) -> list[str]:
        names = ("alternating_epochs", "joint_epochs")
        return [*super().options_in_epochs, *(f"{name}={vars(self.config)[name]:g}" for name in names)]

    def attach(self, run: Run) -> None:
        super().attach(run)
        modules = dict(run.model.named_modules())
        found = {name: modules.get(f"head.projections.{name}") for name in run.face.encoders}
        self._projections = {name: module for name, module in found.items() if module is not None}

    def forget(self) -> None:
        self._stage: list[Any] | None = None  # see `stage_of`; a list, as in a checkpoint

    def begin_step(self, step: Step) -> None:
        stage = list(stage_of(step.epoch, self.config.alternating_epochs, self.config.joint_epochs))
        begins = self._stage != stage and step.step  # the training's first step has no state to forget
        if begins and self.config.reset_momentum and len(step.modalities) > 1:
            step.optimizer.state.clear()
        self._stage = stage

    def _alone(self, step: Step) -> str | None:
        """The modality that is trained alone; None in the second phase."""
        number, is_first = self._stage
        return step.modalities[number % len(step.modalities)] if is_first and len(step.modalities) > 1 else None

    def forward_losses(self, features: dict[str, Tensor], batch: MicroBatch, step: Step) -> dict[str, Tensor]:
        name = self._alone(step)
        if name is None:
            return {}
        logits, config = batch.head_graph, self.config
        present = {each: batch.present(each) for each in logits}
        with torch.no_grad():
            others = {each: own for each, own in logits.items() if each != name}
            for each, own in others.items():
                if present[each] is not None:
                    others[each] = torch.where(present[each].view(-1, *[1] * (own.dim() - 1)), own, 0.0)
            scores = batch.score(torch.stack(list(others.values())).sum(0))
            if batch.modality_mask is not None:
                any_other = torch.stack([present[each] for each in others]).any(0)
                scores = torch.where(any_other.view(-1, *[1] * (scores.dim() - 1)), scores, 0.0)
            weights = residual_weights(scores, config.w1, config.w2)
        own = logits[name]
        loss = batch.loss(with_weighted_gradient(own, weights), present[name])
        losses = {name: loss / own.shape[-1] if config.mean_over_classes else loss}
        number, _ = self._stage
        if config.agreement and number:
            before = step.modalities[(number - 1) % len(step.modalities)]
            both = None if batch.modality_mask is None else present[name] & present[before]
            distance = batch.mean(divergences(own, logits[before].detach()), both)
            losses[f"{self.name} agreement"] = config.agreement * distance
        return losses

    def modulate_losses(self, losses: dict[str, Tensor], batch: MicroBatch, step: Step) -> dict[str, Tensor]:
        name = self._alone(step)
        trained = torch.tensor([float(name in (None, each)) for each in step.modalities])
        self.means.add({f"{self.name}/trained": trained.to(batch.labels.device, non_blocking=True)})
        if name is None:
            return losses
        # The others stay in the graph, so that every parameter has a gradient, as DDP expects.
        kept = (name, f"{self.name} agreement")
        return {key: loss if key in kept else 0.0 * loss for key, loss in losses.items()}

    def modulate_gradients(self, gradients: Gradients, step: Step) -> None:
        name = self._alone(step)
        for each in step.modalities if name is not None else ():
            if each != name:
                frozen = [*gradients.parameters[each]]
                if not self.config.reset_momentum and each in self._projections:  # which momentum would move
                    frozen += self._projections[each].parameters()
                for parameter in frozen:
                    parameter.grad = None
