"""CentralNet (Vielzeuf et al. 2018): the features of all stages flow into a central stream, which predicts.

With ResNet-18 pairs the stages are 64, 128, 256 and 512 wide. The original also trains a classifier per modality:
`auxiliary_loss_weight: 1`.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..fusion import FusionHead, evaluation_mode, layers
from ..options import HeadOptions, check_size
from .base import Inputs, StagedInteraction, call


@dataclass
class CentralNetOptions:
    """Options of CentralNet.

    Args:
        stages: how many of the encoders' last stages flow into the central stream, at least 2.
    """

    stages: int = 4

    def __post_init__(self) -> None:
        check_size("stages", self.stages, least=2)


class CentralHead(FusionHead):
    """The central stream: `u^l = alpha_C^l h_C^l + sum_m alpha_m^l g_m^l`, `h_C^(l+1) = ReLU(BN(F^l u^l))`, and a
    linear classifier on the last u. g_m^l are the taps of modality m; the first u has no h_C. The alphas are trained
    and start at 1.

    Where the modalities differ in width, the narrower taps are padded with zeros.

    Args:
        tap_sizes: per modality the widths of its taps, whose concatenation is its feature.
        config: the model's config.
    """

    def __init__(self, tap_sizes: Mapping[str, Sequence[int]], config: HeadOptions):
        super().__init__({modality: sum(sizes) for modality, sizes in tap_sizes.items()}, config)
        self.tap_sizes = {modality: list(sizes) for modality, sizes in tap_sizes.items()}
        self.widths = [max(widths) for widths in zip(*self.tap_sizes.values(), strict=True)]
        stages = len(self.widths)
        self.alphas = nn.ParameterDict({modality: nn.Parameter(torch.ones(stages)) for modality in tap_sizes})
        self.central_alphas = nn.Parameter(torch.ones(stages - 1))
        self.steps = nn.ModuleList(
            nn.Sequential(nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU())
            for before, after in itertools.pairwise(self.widths)
        )
        self.classifier = layers([self.widths[-1], config.num_labels], config.head_dropout)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        taps = {modality: feature.split(self.tap_sizes[modality], -1) for modality, feature in features.items()}
        batch = next(iter(features.values())).shape[0]
        # A training batch of one has no statistics of its own: BatchNorm takes the running ones.
        with evaluation_mode(self.steps) if batch == 1 else contextlib.nullcontext():
            return self.classifier(self._central_stream(taps))

    def _central_stream(self, taps: Mapping[str, Sequence[Tensor]]) -> Tensor:
        """Per modality a tap `(batch, width)` per stage, to the last u `(batch, width)`."""
        central = self._join(taps, 0)
        for stage, step in enumerate(self.steps, start=1):
            central = self._join(taps, stage) + self.central_alphas[stage - 1] * step(central)
        return central

    def _join(self, taps: Mapping[str, Sequence[Tensor]], stage: int) -> Tensor:
        """`sum_m alpha_m^l g_m^l` of one stage, `(batch, width)`."""
        return sum(
            self.alphas[modality][stage] * nn.functional.pad(g[stage], (0, self.widths[stage] - g[stage].shape[-1]))
            for modality, g in taps.items()
        )


class CentralNet(StagedInteraction):
    """The feature of a modality is the concatenation of its taps, the averages of its stages over positions and
    frames; the central stream is the head."""

    options_class = CentralNetOptions
    has_own_head = True

    def __init__(self, encoders: Mapping[str, nn.Module], options: CentralNetOptions):
        super().__init__(encoders, options.stages)
        self.sizes = {modality: sum(sizes) for modality, sizes in self.stage_sizes.items()}

    @property
    def own_sizes(self) -> dict[str, int]:
        return {modality: sizes[-1] for modality, sizes in self.stage_sizes.items()}

    def own(self, modality: str, feature: Tensor) -> Tensor:
        """The last tap, which is what the encoder itself returns."""
        return feature[:, -self.stage_sizes[modality][-1] :]

    def build_head(self, config: HeadOptions) -> FusionHead:
        return CentralHead(self.stage_sizes, config)

    def start(self, encoder: nn.Module, inputs: Inputs) -> Tensor:
        """All taps of a modality, one after the other: `(batch, sum of the stages' channels)`."""
        first, end = len(encoder.stage_sizes) - self.stages, len(encoder.stage_sizes)
        state = encoder.run_stages(range(first), call(encoder.images, inputs))
        taps = []
        for index in range(first, end):
            state = encoder.run_stages([index], state)
            taps.append(state.pooled())
        return torch.cat(taps, dim=-1)
