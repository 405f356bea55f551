"""PSP (Zhou et al., CVPR 2021, "positive sample propagation"): matching segments of two modalities add up.

Before the block, as in AVGA: projections, attention of the guide in the guided modality, a bidirectional LSTM each. In
the block, the similarities of all segments of one modality to all of the other are normalised, those up to `threshold`
are pruned, and each segment gets the mean of what is left. The threshold lies just below 1 / 10, an even similarity of
AVE's ten segments. The published training adds a loss on the branches' similarity: `segment_loss: pair_similarity`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...ground.task import at_least_float32
from ..options import check_fraction, check_sizes, check_weight
from ..prediction import Prediction
from .base import RecurrentLayer, SegmentArchitecture
from .guided_attention import GuidedAttention, guide_and_guided, where_present
from .inputs import SegmentInput

MINIMUM_SUM = 1e-8


@dataclass
class PSPOptions:
    """Options of PSP; the defaults are the published values.

    Args:
        guide: the modality that points; default the first.
        guided: the modality whose positions it points at; default the second.
        positions: per segment of the guided modality.
        attention_size: width of the attention's projections.
        projection_size: hidden width of the projections before the recurrent layers, which end at `hidden_size`.
        hidden_size: of each direction of the recurrent layers.
        threshold: normalised similarities up to it are pruned, in [0, 1).
        dropout: in [0, 1).
        classifier_size: hidden units of the classifier.
        similarity_weight: of the similarity in `segment_loss: pair_similarity`, at least 0.
    """

    guide: str | None = None
    guided: str | None = None
    positions: int = 49
    attention_size: int = 512
    projection_size: int = 256
    hidden_size: int = 128
    threshold: float = 0.099
    dropout: float = 0.1
    classifier_size: int = 64
    similarity_weight: float = 100.0

    def __post_init__(self) -> None:
        check_sizes(self, "positions", "attention_size", "projection_size", "hidden_size", "classifier_size")
        for name in ("threshold", "dropout"):
            check_fraction(name, vars(self)[name])
        check_weight("similarity_weight", self.similarity_weight)


def normalized_similarities(similarities: Tensor) -> Tensor:
    """Rows divided by their sum; a row of zeros stays. `(..., segments, other segments)`, not negative.

    In float32 or better: in float16 the smallest sum is 0, and bfloat16 has steps of 0.0005 where the threshold lies.
    """
    similarities = at_least_float32(similarities)
    return similarities / (similarities.sum(-1, keepdim=True) + MINIMUM_SUM)


def propagation_weights(similarities: Tensor, threshold: float) -> Tensor:
    """How much of the other modality's segments each segment gets: rows that sum to 1, or to 0 if nothing is left.

    Args:
        similarities: `(batch, segments, other segments)`, not negative.
        threshold: normalised similarities up to it are pruned.

    Returns:
        the shape of `similarities`, float32 or better.

    Example:
        >>> import torch
        >>> propagation_weights(torch.tensor([[[6.0, 3.0, 1.0]]]), threshold=0.1)
        tensor([[[0.6667, 0.3333, 0.0000]]])
    """
    shares = normalized_similarities(similarities)
    return normalized_similarities(torch.where(shares > threshold, shares, 0.0))


class PSPEncoder(nn.Module):
    """theta^m: the input, the projection, for the guide what it says, for the guided one how it attends, and the
    recurrent layer.

    Args:
        segment_input: of the modality.
        options: of the architecture.
        is_guided: the modality's role.
    """

    def __init__(self, segment_input: SegmentInput, options: PSPOptions, is_guided: bool):
        super().__init__()
        size = segment_input.size
        self.input = segment_input
        self.attention = GuidedAttention(size, options.attention_size, options.positions) if is_guided else None
        self.project = nn.Sequential(
            nn.Linear(size, options.projection_size, bias=False),
            nn.Linear(options.projection_size, options.hidden_size, bias=False),
        )
        self.guidance = None if is_guided else nn.Linear(options.hidden_size, options.attention_size)
        self.recurrent = RecurrentLayer(options.hidden_size, options.hidden_size)


class PropagationBranch(nn.Module):
    """One modality's part of the block."""

    def __init__(self, size: int, dropout: float):
        super().__init__()
        self.first = projection(size, dropout)
        self.second = projection(size, dropout)
        self.out = projection(size, dropout)


def projection(size: int, dropout: float) -> nn.Sequential:
    """A linear map without bias, ReLU and dropout."""
    return nn.Sequential(nn.Linear(size, size, bias=False), nn.ReLU(), nn.Dropout(dropout))


class PSP(SegmentArchitecture):
    """See the module and `PSPOptions`."""

    options_class = PSPOptions
    provenance = (
        "PSP (Zhou et al. 2021), re-implemented from what was published, which was trained with Adam and "
        "`segment_loss: pair_similarity`."
    )
    has_branches = True

    def __init__(self, inputs: Mapping[str, SegmentInput], options: PSPOptions, num_labels: int):
        super().__init__(inputs, options, num_labels)
        self.options = options
        self.sizes = dict.fromkeys(inputs, options.hidden_size)
        self.guide, self.guided = guide_and_guided(options, list(inputs))
        self.own_size = size = 2 * options.hidden_size
        self.branches = nn.ModuleDict({name: PropagationBranch(size, options.dropout) for name in inputs})
        self.norm = nn.LayerNorm(size, eps=1e-6)  # of both
        self.classifier = nn.Sequential(
            nn.Linear(size, options.classifier_size, bias=False),
            nn.ReLU(),
            nn.Linear(options.classifier_size, num_labels, bias=False),
        )

    @classmethod
    def check(cls, options: PSPOptions, modalities: Sequence[str]) -> None:
        guide_and_guided(options, modalities)
        if len(modalities) != 2:
            raise ValueError(f"psp is defined for two modalities, found {list(modalities)}. Use avga or avsdn.")

    @classmethod
    def uses_positions(cls, options: PSPOptions, modalities: Sequence[str]) -> set[str]:
        return {guide_and_guided(options, modalities)[1]}

    def build_encoder(self, modality: str, segment_input: SegmentInput) -> nn.Module:
        return PSPEncoder(segment_input, self.options, modality == self.guided)

    def features(
        self, encoders: Mapping[str, nn.Module], inputs: Mapping[str, Tensor | None], presence: Mapping[str, Tensor]
    ) -> dict[str, Tensor | None]:
        guiding, guided = encoders[self.guide], encoders[self.guided]
        features, guidance = dict(inputs), None
        if inputs[self.guide] is not None:
            features[self.guide] = guiding.project(inputs[self.guide])
            guidance = torch.relu(guiding.guidance(features[self.guide]))
            guidance = where_present(guidance, presence.get(self.guide))
        if inputs[self.guided] is not None:
            features[self.guided] = guided.project(guided.attention(inputs[self.guided], guidance))
        return features

    def forward(self, encoders: Mapping[str, nn.Module], features: Mapping[str, Tensor]) -> Prediction:
        states = {name: encoders[name].recurrent(feature)[0] for name, feature in features.items()}
        branches = self.propagate(states)
        return Prediction(self.classifier(torch.stack(list(branches.values())).mean(0)), branches)

    def propagate(self, states: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The block: per modality `(batch, segments, size)` to what the classifier averages, of the same shape."""
        guide, guided = self.branches[self.guide], self.branches[self.guided]
        similarities = guided.second(states[self.guided]) @ guide.first(states[self.guide]).transpose(1, 2)
        similarities = torch.relu(similarities / math.sqrt(states[self.guide].shape[-1]))
        to_guided, to_guide = (
            propagation_weights(rows, self.options.threshold).to(similarities.dtype)
            for rows in (similarities, similarities.transpose(1, 2))
        )
        joined = {
            self.guided: states[self.guided] + to_guided @ guide.second(states[self.guide]),
            self.guide: states[self.guide] + to_guide @ guided.first(states[self.guided]),
        }
        return {name: self.norm(self.branches[name].out(joined[name])) for name in states}
