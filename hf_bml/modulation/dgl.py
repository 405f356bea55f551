"""DGL, disentangled gradient learning: encoders learn from their own losses alone, the head from the joint loss alone.

Wei et al., ICCV 2025. With sg the stop-gradient, f the head and f' the same head with its parameters as constants:

    L = loss(f(sg phi^1, ..., sg phi^M)) + alpha sum_m loss(f'(phi^m))

where f'(phi^m) is what the head predicts with the other features at zero: W^m phi^m + b of a linear head. What another
modality already explains then holds no encoder back, and the head does not learn from single modalities.

Usage:      `modulations: {dgl: {}}`
Values:     alpha 4 on CREMA-D, 2...3 on Kinetics-Sounds, 2 on VGGSound. 0 freezes the encoders.
Relations:  drops of OPM and ModDrop change what the head learns from, not the encoders. Methods that scale or combine
            the encoders' gradients are excluded. `multi_loss` adds the same losses without the stop-gradients.
Limits:     late fusion, by a head that predicts something from one modality alone (not `product`), and no classifiers
            of single modalities (`auxiliary_loss_weight`).

`bias: full`, as in the authors' code, gives every modality's own prediction all of what the head predicts from no
modality, which is b of a linear head; `split` gives it 1/M of that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .base import Modulation, Title
from .config import ModulationConfig, option
from .step import MicroBatch, Needs, Step

NO_JOINT_GRADIENT = "no joint gradient reaches the encoders with dgl."


@dataclass
class DGLConfig(ModulationConfig):
    """Options of DGL.

    Args:
        alpha: of the modalities' summed losses, and so of the encoders' gradients, at least 0.
        bias: `"full"` or `"split"`: how much of the head's bias a modality's own prediction has.
    """

    alpha: float = option(4.0, "Factor of the encoders' own losses, at least 0.", "[0, inf)")
    bias: str = option("full", "Bias of a modality's own prediction: full, or split, 1/M.", ("full", "split"))


class DGL(Modulation):
    """Trains encoders by their own losses through a constant head, and the head by the joint loss.

    Logs `dgl/loss_<m>`, without alpha.
    """

    name = "dgl"
    config_class = DGLConfig
    config: DGLConfig
    phase = "features"
    excludes: ClassVar = {"scale_gradients": NO_JOINT_GRADIENT, "combine_gradients": NO_JOINT_GRADIENT}
    titles: ClassVar = {"loss": Title("loss of one modality")}

    def needs(self, modalities: Sequence[str]) -> Needs:
        return Needs(fuse=True, head_graph=True, features_only=True)

    def modulate_features(
        self, features: dict[str, Tensor], batch: MicroBatch, keep_mask: Tensor | None, step: Step
    ) -> dict[str, Tensor]:
        return {name: feature.detach() for name, feature in features.items()}

    def forward_losses(self, features: dict[str, Tensor], batch: MicroBatch, step: Step) -> dict[str, Tensor]:
        excess: Tensor | float = 0.0
        if self.config.bias == "split":
            nothing = batch.fuse({}, parameters="detached")
            excess = (1 - 1 / len(batch.features)) * (nothing - batch.task.nothing(nothing))
        losses = {
            name: batch.loss(batch.fuse({name: feature}, parameters="detached") - excess, batch.present(name))
            for name, feature in batch.features.items()
        }
        self.means.add({"dgl/loss": torch.stack([loss.detach() for loss in losses.values()])})
        return {name: self.config.alpha * loss for name, loss in losses.items()}
