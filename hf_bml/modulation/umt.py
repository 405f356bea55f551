"""UMT, unimodal teachers: every encoder learns to give the features of a model of its modality that was trained alone.

    L = CE(o, y) + weight * sum_m mean_{i,d} (phi_{i,d}^m - phi'_{i,d}^m)^2

phi' are the features of the teacher, before fusion, of the same augmented input; a teacher is frozen and in eval mode,
and also teaches samples without a label (Du et al., ICML 2023). The average of the teachers' own predictions is the
row `ensemble` of `hf-bml compare`.

Usage:      `modulations: {umt: {weight: 10}}`. `hf-bml train` and `compare` train the teachers first, by the same
            recipe with one modality, and reuse them; others are named by `trained_alone: {audio: FOLDER, ...}`, which
            in Python is an argument of the training.
Values:     weight 10; search 1, 10, 50, 100 on a validation split.
Relations:  `g2d` also distils predictions, and trains the weaker encoder first. Drops of OPM and ModDrop act behind
            the features that are compared.
Limits:     late fusion, and features as large as the teachers'. A step costs a forward of all encoders more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .base import Modulation, Title
from .config import ModulationConfig, option
from .step import MicroBatch, Needs, Run, Step
from .teachers import Teachers, feature_distance


@dataclass
class UMTConfig(ModulationConfig):
    """Options of UMT.

    Args:
        weight: of the summed distances, at least 0. 0 is plain training, and needs no teachers.
    """

    weight: float = option(10.0, "Weight of the distances to the teachers, at least 0.", "[0, inf)")


class UMT(Modulation):
    """Adds every modality's distance to its teacher. Logs it as `umt/distance_<m>`, without the weight; 0 in a
    micro-batch in which no sample has the modality."""

    name = "umt"
    config_class = UMTConfig
    config: UMTConfig
    phase = "add_losses"
    titles: ClassVar = {"distance": Title("distance to the teacher")}

    def needs(self, modalities: Sequence[str]) -> Needs:
        return Needs(inputs=True, trained_alone=True, fuse=True) if self.config.weight else Needs()

    def attach(self, run: Run) -> None:
        self._teachers = Teachers(run, self.means.modalities)

    def forward_losses(self, features: dict[str, Tensor], batch: MicroBatch, step: Step) -> dict[str, Tensor]:
        if not self.config.weight:
            return {}
        taught = {name: output.features[name] for name, output in self._teachers.outputs(batch).items()}
        distances = [
            feature_distance(own, taught.get(name, own), batch.present(name)) for name, own in batch.features.items()
        ]
        self.means.add({"umt/distance": torch.stack([distance.detach() for distance in distances])})
        return {self.name: self.config.weight * batch.weight * sum(distances)}
