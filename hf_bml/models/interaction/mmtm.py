"""MMTM, multimodal transfer modules (Joze et al. 2020): the modalities together gate the channels of each.

Defaults as published, after the last three stages with ratio 4, but for the gates' scale: the paper's `2 sigmoid(.)`
can leave the maps as they are, the authors' code has `sigmoid(.)`, which is `gate_scale: 1`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..encoders.image import StageMaps
from ..options import check_size, is_number
from .base import Inputs, StagedInteraction, call, fill_absent


@dataclass
class MMTMOptions:
    """Options of MMTM.

    Args:
        stages: after how many of the encoders' last stages to place a module.
        ratio: the squeeze has `2 * channels / ratio` units, channels summed over the modalities.
        gate_scale: gates are `gate_scale * sigmoid(.)`; 2 makes the identity reachable, 1 is the published code.
    """

    stages: int = 3
    ratio: int = 4
    gate_scale: float = 2.0

    def __post_init__(self) -> None:
        check_size("stages", self.stages)
        check_size("ratio", self.ratio)
        if not (is_number(self.gate_scale) and 0 < self.gate_scale < float("inf")):
            raise ValueError(f"gate_scale must be a number above 0, found {self.gate_scale!r}.")


class MMTMModule(nn.Module):
    """One multimodal transfer module: joint squeeze, and a channel gate per modality.

    Scoring a modality calls it too, in eval mode; a forward hook for the joint path alone checks `training`.

    Args:
        sizes: channels per modality.
        ratio, gate_scale: see `MMTMOptions`.
    """

    def __init__(self, sizes: Mapping[str, int], ratio: int, gate_scale: float):
        super().__init__()
        self.gate_scale = gate_scale
        total = sum(sizes.values())
        self.squeeze = nn.Linear(total, max(1, int(2 * total / ratio)))
        self.excite = nn.ModuleDict(
            {modality: nn.Linear(self.squeeze.out_features, size) for modality, size in sizes.items()}
        )

    def forward(self, pooled: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Per modality the pooled feature `(batch, channels)`, zero where absent, to its gate of the same shape."""
        squeezed = torch.relu(self.squeeze(torch.cat(list(pooled.values()), dim=-1)))
        return {
            modality: self.gate_scale * torch.sigmoid(excite(squeezed)) for modality, excite in self.excite.items()
        }


class MMTM(StagedInteraction):
    """The encoders run stage by stage; after each of the last stages, a module gates their channels.

    Clips are averaged over frames for the squeeze, and one gate scales all frames. The maps of a modality that is
    dropped from a sample run on, gated by the others, and count in BatchNorm as they do in late fusion.
    """

    options_class = MMTMOptions
    features_are_unimodal = False

    def __init__(self, encoders: Mapping[str, nn.Module], options: MMTMOptions):
        super().__init__(encoders, options.stages)
        self.transfer_modules = nn.ModuleList(
            MMTMModule(
                {modality: sizes[stage] for modality, sizes in self.stage_sizes.items()},
                options.ratio,
                options.gate_scale,
            )
            for stage in range(self.stages)
        )

    def start(self, encoder: nn.Module, inputs: Inputs) -> StageMaps:
        """The first stages, up to and with the first one that is gated."""
        first = len(encoder.stage_sizes) - self.stages
        return encoder.run_stages(range(first + 1), call(encoder.images, inputs))

    def forward(
        self,
        encoders: Mapping[str, nn.Module],
        started: Mapping[str, StageMaps | None],
        keep_mask: Tensor | None = None,
    ) -> dict[str, Tensor]:
        given = {name: state for name, state in started.items() if state is not None}
        for stage, module in enumerate(self.transfer_modules):
            if stage > 0:
                given = {name: self._next(encoders[name], stage, state) for name, state in given.items()}
            sizes = {name: sizes[stage] for name, sizes in self.stage_sizes.items()}
            pooled = {name: given[name].pooled() if name in given else None for name in started}
            gates = module(fill_absent(pooled, sizes, keep_mask))
            given = {name: state.scaled(gates[name]) for name, state in given.items()}
        features = {name: given[name].pooled() if name in given else None for name in started}
        return fill_absent(features, self.sizes, keep_mask)

    def _next(self, encoder: nn.Module, stage: int, state: StageMaps) -> StageMaps:
        """`state` after the encoder's stage that module number `stage` follows."""
        return encoder.run_stages([len(encoder.stage_sizes) - self.stages + stage], state)
