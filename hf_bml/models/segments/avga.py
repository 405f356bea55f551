"""AVGA (Tian et al., ECCV 2018, "audio-visual event localization"): guided attention, a recurrent layer per modality.

The guide, which is the sound on AVE, points at positions of the guided modality in every segment; bidirectional LSTMs
run over the segments of each modality, and a two-layer classifier sees their outputs joined. Further modalities run
beside these. The published training minimises a multi-label margin on the softmax: `segment_loss: soft_margin`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..encoders.lstm import RecurrentLayer
from ..options import check_sizes
from ..prediction import Prediction
from .base import SegmentArchitecture
from .guided_attention import GuidedAttention, guide_and_guided, where_present
from .inputs import SegmentInput


@dataclass
class AVGAOptions:
    """Options of AVGA; the defaults are the published values.

    Args:
        guide: the modality that points; default the first.
        guided: the modality whose positions it points at; default the next.
        positions: per segment of the guided modality.
        attention_size: width of the attention's projections.
        hidden_size: of each direction of the recurrent layers.
        classifier_size: hidden units of the classifier.
    """

    guide: str | None = None
    guided: str | None = None
    positions: int = 49
    attention_size: int = 512
    hidden_size: int = 128
    classifier_size: int = 64

    def __post_init__(self) -> None:
        check_sizes(self, "positions", "attention_size", "hidden_size", "classifier_size")


class AVGAEncoder(nn.Module):
    """theta^m: the input, what the guide says or how the guided one attends, and the recurrent layer.

    Args:
        segment_input: of the modality.
        options: of the architecture.
        guides, is_guided: the modality's role.
    """

    def __init__(self, segment_input: SegmentInput, options: AVGAOptions, guides: bool, is_guided: bool):
        super().__init__()
        size = segment_input.size
        self.input = segment_input
        self.guidance = nn.Linear(size, options.attention_size) if guides else None
        self.attention = GuidedAttention(size, options.attention_size, options.positions) if is_guided else None
        self.recurrent = RecurrentLayer(size, options.hidden_size)


class AVGA(SegmentArchitecture):
    """See the module and `AVGAOptions`."""

    options_class = AVGAOptions
    provenance = (
        "AVGA (Tian et al. 2018), re-implemented from what was published, which was trained with Adam and "
        "`segment_loss: soft_margin`."
    )

    def __init__(self, inputs: Mapping[str, SegmentInput], options: AVGAOptions, num_labels: int):
        super().__init__(inputs, options, num_labels)
        self.options = options
        self.guide, self.guided = guide_and_guided(options, list(inputs))
        self.own_size = 2 * options.hidden_size
        self.classifier = nn.Sequential(
            nn.ReLU(),
            nn.Linear(self.own_size * len(inputs), options.classifier_size),
            nn.ReLU(),
            nn.Linear(options.classifier_size, num_labels),
        )

    @classmethod
    def check(cls, options: AVGAOptions, modalities: Sequence[str]) -> None:
        guide_and_guided(options, modalities)

    @classmethod
    def uses_positions(cls, options: AVGAOptions, modalities: Sequence[str]) -> set[str]:
        return {guide_and_guided(options, modalities)[1]}

    def build_encoder(self, modality: str, segment_input: SegmentInput) -> nn.Module:
        return AVGAEncoder(segment_input, self.options, modality == self.guide, modality == self.guided)

    def features(
        self, encoders: Mapping[str, nn.Module], inputs: Mapping[str, Tensor | None], presence: Mapping[str, Tensor]
    ) -> dict[str, Tensor | None]:
        features = dict(inputs)
        if inputs[self.guided] is not None:
            guidance = None
            if inputs[self.guide] is not None:
                guidance = torch.relu(encoders[self.guide].guidance(inputs[self.guide]))
                guidance = where_present(guidance, presence.get(self.guide))
            features[self.guided] = encoders[self.guided].attention(inputs[self.guided], guidance)
        return features

    def forward(self, encoders: Mapping[str, nn.Module], features: Mapping[str, Tensor]) -> Prediction:
        states = [encoders[name].recurrent(feature)[0] for name, feature in features.items()]
        return Prediction(self.classifier(torch.cat(states, dim=-1)))
