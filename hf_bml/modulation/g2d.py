"""G2D: distillation of models of one modality each, and the modality whose model is worst trains first.

    L = CE(o, y) + sum_m [a T^2 KL(softmax(z'^m / T) || softmax(o / T)) + b mean_{i,d} (phi_{i,d}^m - phi'_{i,d}^m)^2]

z'^m and phi'^m are logits and features of a model of modality m that was trained alone, is frozen and in eval mode,
and sees the same augmented input; o are the joint logits (ICCV 2025, github.com/rAIson-Lab/G2D). It also teaches
samples without a label. For a share of the training the encoders whose teachers predict better are frozen, as in
`prioritise`, by the teachers' scores.

Usage:      `modulations: {g2d: {share: 0.5}}`; for the teachers see `umt`.
Values:     a = b = T = 1 (`logit_weight`, `feature_weight`, `temperature`); share 0.5, the first 150 of 300 epochs.
Relations:  `prioritise` is the schedule without teachers, `umt` the features without the schedule.
Limits:     late fusion, and features as large as the teachers'. A step costs a forward of all encoders more.

Preset `released` follows the authors' code: gradients of convolution weights are set to zero, by the scores of the
step itself. Their model averages the modalities' logits, which is an option of the model: `fusion: average_logits`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .base import Title
from .config import option
from .discrepancy import comparable_scores, score_totals
from .prioritise import Prioritise, PrioritiseConfig
from .step import Gradients, MicroBatch, Needs, Run, Step
from .teachers import Teachers, divergence, feature_distance


@dataclass
class G2DConfig(PrioritiseConfig):
    """Options of G2D.

    Args:
        logit_weight: a, at least 0.
        feature_weight: b, at least 0.
        temperature: T, > 0.
    """

    logit_weight: float = option(1.0, "Weight of the distilled predictions, at least 0.", "[0, inf)")
    feature_weight: float = option(1.0, "Weight of the distilled features, at least 0.", "[0, inf)")
    temperature: float = option(1.0, "Temperature of the distilled predictions, > 0.", "(0, inf)")


class G2D(Prioritise):
    """Distils every modality's teacher, and freezes the encoders of those that are better.

    Logs `g2d/frozen_<m>`, the share of steps, and, without their weights, `g2d/distance_<m>` of the features and
    `g2d/divergence_<m>` of the predictions.
    """

    name = "g2d"
    config_class = G2DConfig
    config: G2DConfig
    compares_modalities = False
    kept = ("scores",)
    titles: ClassVar = {
        **Prioritise.titles,
        "distance": Title("distance to the teacher"),
        "divergence": Title("divergence from the teacher"),
    }

    def needs(self, modalities: Sequence[str]) -> Needs:
        distils = bool(self.config.logit_weight)
        return super().needs(modalities) | Needs(inputs=True, trained_alone=True, fuse=True, classes=distils)

    def attach(self, run: Run) -> None:
        self._teachers = Teachers(run, self.means.modalities)

    def forget(self) -> None:
        super().forget()
        self._scores: Tensor | None = None  # (2, modalities), of the teachers in the last step; and whether observed

    def order(self, step: Step) -> tuple[Tensor, Tensor] | None:
        return None if self._scores is None else (self._scores[0], self._scores[1] > 0)

    def forward_losses(self, features: dict[str, Tensor], batch: MicroBatch, step: Step) -> dict[str, Tensor]:
        outputs = self._teachers.outputs(batch)
        zeros = torch.zeros_like(next(iter(outputs.values())).logits)  # of what the whole batch lacks, and masks
        taught = {name: outputs[name].logits if name in outputs else zeros for name in batch.features}
        step.add(f"{self.name}/scores", score_totals(taught, batch.labels, batch.modality_mask, batch.task)[[0, 2]])
        batch.scratch[self.name] = {name: taught[name] for name in outputs}
        distances = [
            feature_distance(own, outputs[name].features[name] if name in outputs else own, batch.present(name))
            for name, own in batch.features.items()
        ]
        self.means.add({f"{self.name}/distance": torch.stack([distance.detach() for distance in distances])})
        return {self.name: self.config.feature_weight * batch.weight * sum(distances)}

    def modulate_losses(self, losses: dict[str, Tensor], batch: MicroBatch, step: Step) -> dict[str, Tensor]:
        logits, taught = batch.output["logits"], batch.scratch[self.name]
        found = [
            divergence(taught.get(name, logits), logits, self.config.temperature, batch.present(name))
            for name in step.modalities
        ]
        self.means.add({f"{self.name}/divergence": torch.stack([each.detach() for each in found])})
        return {**losses, f"{self.name} logits": self.config.logit_weight * batch.weight * sum(found)}

    @torch.no_grad()
    def modulate_gradients(self, gradients: Gradients, step: Step) -> None:
        scores, observed = comparable_scores(*step.total(f"{self.name}/scores"))
        self._scores = torch.stack([scores, observed.to(scores.dtype)])
        super().modulate_gradients(gradients, step)
