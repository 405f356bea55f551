"""AVSDN, a re-implementation (Lin, Li and Wang, ICASSP 2019, "dual-modality seq2seq network for event localization").

No code of the authors was found; this follows the abstract and published summaries. What is known: an LSTM per
modality encodes the clip, their last states are fused into what starts a decoder, which labels the segments. What was
filled in:

- the last hidden and cell states are fused by a dual residual block each, as in the DMRN of AVE's authors:
  `h = mean over m of tanh(x_m + r)` with `r = mean over m of U_m x_m`, U_m being linear, tanh, linear;
- encoders run in one direction; the decoder sees the modalities' inputs of its segment, concatenated;
- one linear layer labels each segment; hidden size 128; cross-entropy, one training stage;
- linear layers start Xavier uniform, recurrent ones as torch's own, as the published code of `avga` and `psp` has it.

The authors' visual features are those of ResNet-152; on AVE's released features, the mean over positions of VGG-19's
stands in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..encoders.lstm import RecurrentLayer
from ..options import check_size
from ..prediction import Prediction
from .base import SegmentArchitecture
from .inputs import SegmentInput


@dataclass
class AVSDNOptions:
    """Options of AVSDN.

    Args:
        hidden_size: of the encoders, of the decoder, and of the fusion's hidden layer.
    """

    hidden_size: int = 128

    def __post_init__(self) -> None:
        check_size("hidden_size", self.hidden_size)


class DualResidualFusion(nn.Module):
    """`mean_m tanh(x_m + r)` with `r = mean_m U_m x_m`, each U linear, tanh, linear.

    Args:
        modalities: names.
        size: of every x_m.
    """

    def __init__(self, modalities: list[str], size: int):
        super().__init__()
        self.residuals = nn.ModuleDict(
            {name: nn.Sequential(nn.Linear(size, size), nn.Tanh(), nn.Linear(size, size)) for name in modalities}
        )

    def forward(self, states: Mapping[str, Tensor]) -> Tensor:
        """Per modality `(..., size)` to `(..., size)`."""
        shared = torch.stack([self.residuals[name](state) for name, state in states.items()]).mean(0)
        return torch.stack([torch.tanh(state + shared) for state in states.values()]).mean(0)


class AVSDNEncoder(nn.Module):
    """theta^m: the input and the LSTM that encodes the clip."""

    def __init__(self, segment_input: SegmentInput, options: AVSDNOptions):
        super().__init__()
        self.input = segment_input
        self.recurrent = RecurrentLayer(segment_input.size, options.hidden_size, bidirectional=False)


class AVSDN(SegmentArchitecture):
    """See the module and `AVSDNOptions`."""

    options_class = AVSDNOptions
    provenance = (
        "A re-implementation of AVSDN (Lin et al. 2019) from its abstract: no code of the authors was found. Filled "
        "in: a dual residual block fuses the encoders' last states, the encoders run in one direction, one linear "
        "layer labels each segment. A difference to published scores says nothing about the original."
    )

    def __init__(self, inputs: Mapping[str, SegmentInput], options: AVSDNOptions, num_labels: int):
        super().__init__(inputs, options, num_labels)
        self.options = options
        self.own_size = options.hidden_size
        self.hidden_fusion = DualResidualFusion(list(inputs), options.hidden_size)
        self.cell_fusion = DualResidualFusion(list(inputs), options.hidden_size)
        self.decoder = RecurrentLayer(sum(self.sizes.values()), options.hidden_size, bidirectional=False)
        self.classifier = nn.Linear(options.hidden_size, num_labels)

    def build_encoder(self, modality: str, segment_input: SegmentInput) -> nn.Module:
        return AVSDNEncoder(segment_input, self.options)

    def forward(self, encoders: Mapping[str, nn.Module], features: Mapping[str, Tensor]) -> Prediction:
        last = {name: encoders[name].recurrent(feature)[1] for name, feature in features.items()}
        hidden = self.hidden_fusion({name: h for name, (h, _) in last.items()})  # (1, batch, hidden_size)
        cell = self.cell_fusion({name: c for name, (_, c) in last.items()})
        decoded, _ = self.decoder(torch.cat(list(features.values()), dim=-1), (hidden, cell))
        return Prediction(self.classifier(decoded))
